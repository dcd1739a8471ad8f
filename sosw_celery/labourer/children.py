"""The processes of a node's pool, from outside: whether they live, how they are ended, and what is left behind them.

Each leads a session, and so a process group, of its own: what a body started as a subprocess ends with its process. (A
session and not a group alone: of a terminal's session only the group in the foreground may touch the terminal, others
are stopped by the kernel.)

Whoever ends a process says why. Celery tells the main process that a process died, and not before it is dead: then what
it ran is failed, for that reason, and its slot is freed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from dataclasses import dataclass

from billiard.exceptions import SoftTimeLimitExceeded
from celery import current_task

from sosw_celery.clock import steady
from sosw_celery.core.tasks.model import Attempt
from sosw_celery.labourer.pool_memory import Entry, Stage, board, here

__all__ = ["end", "is_alive", "kill", "lay_to_rest", "take_soft_limits"]

logger = logging.getLogger(__name__)

#: Seconds that a process has to end after another signal than SIGKILL.
GRACE_S = 0.1
#: Seconds within which a process that was killed is dead. The kernel takes milliseconds, unless it waits for a device.
DEATH_S = 5.0
LOOK_S = 0.005


@dataclass(frozen=True)
class _Verdict:
    attempt: Attempt
    reason: str


#: By process id: why it was ended. Of the last one with this id.
_verdicts: dict[int, _Verdict] = {}


def take_soft_limits() -> None:
    """Have the signal of a soft time limit raise `SoftTimeLimitExceeded` in bodies alone, in this pool process.

    Billiard's handler raises it wherever the process is when the signal comes: a moment too late, that is in the close.
    """
    signal.signal(signal.SIGUSR1, _end_body_softly)


def _end_body_softly(*_: object) -> None:
    is_in_body = here.stage is Stage.RUNNING or (here.stage is Stage.DONE and bool(current_task))
    if is_in_body:
        raise SoftTimeLimitExceeded


def is_alive(pid: int) -> bool:
    """Return whether this is a child of ours that runs. One that is dead is left for the pool to wait for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def end(entry: Entry, reason: str) -> bool:
    """Kill the process that is at an attempt, and what it started; return False if it is not at it any more.

    Parameters:
        reason: Becomes the error of the attempt.
    """
    now = board.at(entry.place)
    if now is None or (now.pid, now.attempt, now.stage) != (entry.pid, entry.attempt, entry.stage):
        return False
    if not is_alive(entry.pid):
        return False
    _verdicts[entry.pid] = _Verdict(entry.attempt, reason)
    logger.error("attempt ended: %s", reason, extra={"holder": entry.attempt.holder})
    kill(entry.pid)
    return True


def kill(pid: int) -> None:
    """Kill a process, and its group where it leads one."""
    with contextlib.suppress(ProcessLookupError):
        leads = os.getpgid(pid) == pid
        (os.killpg if leads else os.kill)(pid, signal.SIGKILL)


def lay_to_rest(entry: Entry) -> str | None:
    """See to it that nothing of an attempt runs any more; return why its process was ended, None if not by `end`.

    To be called by the main process before it fails the attempt. Does nothing to a process that goes on because it is
    through with the body.
    """
    if is_alive(entry.pid):
        if entry.stage in (Stage.CLOSING, Stage.DONE):
            return None
        _wait_for_death(entry.pid, GRACE_S)
        kill(entry.pid)
        _wait_for_death(entry.pid, DEATH_S)
    # Its id is no other group's while one of it is left. Whoever is killed runs not one more line of its own.
    if not _is_strangers(entry.pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(entry.pid, signal.SIGKILL)
    verdict = _verdicts.pop(entry.pid, None)
    return verdict.reason if verdict is not None and verdict.attempt == entry.attempt else None


def _is_strangers(pid: int) -> bool:
    """Return whether a process has this id that is no child of ours: it got it after ours was waited for."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return _exists(pid)
    return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _wait_for_death(pid: int, timeout_s: float) -> None:
    deadline = steady() + timeout_s
    while is_alive(pid) and steady() < deadline:
        time.sleep(LOOK_S)
