"""Celery's processes on this machine: started, watched and ended together.

Each runs under the supervisor of `local.supervise`, in a session of its own: Ctrl-C in the terminal reaches none of
them (they are ended here, in good order), and all of them end with the process that started them, whatever ends that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from sosw_celery.errors import SoswError
from sosw_celery.local import supervise
from sosw_celery.names import QUEUES

__all__ = ["CeleryProcess", "Processes", "Role", "beat", "ending_words", "essentials", "labourer_node"]

#: Seconds that a worker has to finish its running tasks before it is killed.
WARM_S = 30.0
POLL_S = 0.05

#: What processes log unless told otherwise.
LOG_LEVEL = "INFO"


class NotStarted(SoswError):
    """A process could not be started at all."""


@dataclass(frozen=True)
class Role:
    """What a process is for: its name for people, what follows `celery -A APP`, and that app."""

    name: str
    arguments: tuple[str, ...]
    app: str = "sosw_celery"

    def command(self, log_level: str = LOG_LEVEL) -> list[str]:
        """Return the command line. A worker's node name is a new one each time: two nodes never share one."""
        unique = f"{self.name}-{secrets.token_hex(3)}@%h"
        arguments = [unique if word == NODE else word for word in self.arguments]
        return [sys.executable, "-m", "celery", "-q", "-A", self.app, *arguments, "--loglevel", log_level]


#: Stands in a role's arguments for the name of the node.
NODE = "<node>"


def essentials(concurrency: int) -> Role:
    """Return the worker that runs the system's own tasks."""
    return _worker("essentials", dict.fromkeys(QUEUES.values()), concurrency)


def labourer_node(labourer_id: str, concurrency: int) -> Role:
    """Return a worker that runs a labourer's tasks."""
    return _worker(labourer_id, [labourer_id], concurrency)


def beat(schedule_file: Path) -> Role:
    """Return the beat: scheduled jobs, and the safety net."""
    return Role("beat", ("beat", "--schedule", str(schedule_file), "--pidfile="))


def _worker(name: str, queues: Iterable[str], concurrency: int) -> Role:
    # Without mingle a node is ready a second earlier; nothing here needs nodes to know each other.
    quiet = ("--without-gossip", "--without-mingle")
    options = ("-Q", ",".join(queues), "-c", str(concurrency), "-n", NODE)
    return Role(name, ("worker", *options, *quiet))


class CeleryProcess:
    """A process of Celery, with its children.

    Parameters:
        log: Where its output goes; None: to `output`, for the caller to read all the time.
    """

    def __init__(
        self, role: Role, environment: Mapping[str, str], *, log: IO[bytes] | None = None, log_level: str = LOG_LEVEL
    ) -> None:
        self.role = role
        command = role.command(log_level)
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervise.__file__, "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log if log is not None else subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
        first_line = cast(IO[bytes], self._supervisor.stdout).readline()
        if not first_line:
            self._close()
            raise NotStarted(f"{role.name} did not start: {' '.join(command)}")
        #: The process id of Celery's main process.
        self.pid = int(first_line)
        self.started_at = time.monotonic()

    @property
    def output(self) -> IO[bytes] | None:
        """What the process prints, when it has no log."""
        return self._supervisor.stderr

    @property
    def exit_status(self) -> int | None:
        """How the process ended, as `subprocess` says it: -9 when it was killed. None while it runs."""
        status = self._supervisor.poll()
        return status if status is None or status < 128 else status - 256

    def kill(self) -> None:
        """Kill the process as a power cut would; its children die with it."""
        self._signal(signal.SIGKILL)

    def finish(self) -> None:
        """Ask the process to end as soon as its running tasks have."""
        self._signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> bool:
        """Return whether the process has ended within the time."""
        try:
            self._supervisor.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._close()
        return True

    def end_now(self) -> None:
        """Have the process ended."""
        self.kill()
        if not self.wait(supervise.STOP_TIMEOUT_S):
            self._supervisor.kill()
            self._supervisor.wait()
            self._close()

    def _signal(self, number: signal.Signals) -> None:
        # Until the supervisor has ended, which it does when its process has, the id is not another's.
        if self._supervisor.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ends right now
                os.kill(self.pid, number)

    def _close(self) -> None:
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                pipe.close()


def ending_words(status: int | None) -> str:
    """Return in words how a process ended."""
    return f"killed by signal {-status}" if status is not None and status < 0 else f"exit status {status}"


class Processes:
    """Celery processes that share an environment and end together, with the `with` block.

    Parameters:
        log_dir: Each role's output is appended to a file of its name there; None: read each process's `output`.
    """

    def __init__(self, environment: Mapping[str, str], log_dir: Path | None = None) -> None:
        self.environment = dict(environment)
        self.log_dir = log_dir
        self.running: list[CeleryProcess] = []

    def start(self, role: Role, log_level: str = LOG_LEVEL) -> CeleryProcess:
        """Start a process; return at once, it needs a second or two until it works."""
        if self.log_dir is None:
            process = CeleryProcess(role, self.environment, log_level=log_level)
        else:
            with self.log_of(role).open("ab") as log:
                process = CeleryProcess(role, self.environment, log=log, log_level=log_level)
        self.running.append(process)
        return process

    def log_of(self, role: Role) -> Path:
        """Return the log file of a role."""
        assert self.log_dir is not None
        return self.log_dir / f"{role.name}.log"

    def ended(self) -> list[CeleryProcess]:
        """Return the processes that have ended since the last call, and let go of them."""
        ended = [process for process in self.running if process.wait(0)]
        self.running = [process for process in self.running if process not in ended]
        return ended

    def sacrifice(self, process: CeleryProcess) -> None:
        """Kill one of the processes, which `ended` does not tell of then."""
        self.running.remove(process)
        process.end_now()

    def finish(self, warm_s: float = WARM_S) -> None:
        """End all, beat first; workers may finish their running tasks for `warm_s` seconds."""
        for process in sorted(self.running, key=lambda process: process.role.name != "beat"):
            process.finish()
        deadline = time.monotonic() + warm_s
        for process in self.running:
            process.wait(max(POLL_S, deadline - time.monotonic()))
        self.end_now()

    def end_now(self) -> None:
        """End all; attempts that run are lost, and run again when workers are there again."""
        for process in self.running:
            process.kill()
        for process in self.running:
            process.end_now()
        self.running.clear()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end_now()
