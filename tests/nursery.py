"""Starts processes under test as forks of one process that has imported Celery and us already.

Each is a real process with a session, a group and a log of its own, as if a supervisor had started `celery -A
sosw_celery ...`; only the second of CPU for the imports is spent once instead of ten times a run. Nothing is connected
and no configuration is read before the fork.

    with Nursery() as nursery:
        process = nursery.start(["worker", "-Q", "note"], environment, directory, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

Whoever is started here ends with the nursery, and the nursery with the process that made it, whatever ends that.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tests import signals

__all__ = ["Nursery", "Process", "children_of", "groups_of", "signal_node"]

ROOT = Path(__file__).parents[1]

#: What every process under test imports, as far as it reads no configuration while it is imported. Nothing that makes
#: memory for a node's processes to share, as `pool_memory` does: all nodes would share it.
COMMON = (
    "sosw_celery.wiring.container",
    "celery.app.log",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.backends.redis",
    "celery.bin.beat",
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.events.state",
    "celery.fixups.django",
    "celery.worker.components",
    "celery.worker.consumer",
    "kombu.transport.redis",
)

#: Such modules.
OF_ONE_NODE = frozenset(
    {"sosw_celery.labourer.pool_memory", "sosw_celery.labourer.watchdog", "sosw_celery.system.scheduler_task"}
)

#: Seconds within which the children of a process have ended after it.
GROUP_ENDS_S = 5.0

#: Seconds between two looks whether a process has ended.
LOOK_EVERY_S = 0.02

#: Seconds within which a process has ended that was killed, with its children.
KILLED_S = 20.0

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started, and that nobody waited for yet."""
    texts = [_text_of(path) for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in texts for child in text.split()]


def groups_of(main_pid: int) -> list[int]:
    """Return the process groups of a worker node: that of its main process, and those that its children lead."""
    return [main_pid, *filter(_leads, children_of(main_pid))]


def _parent_of(pid: int) -> int | None:
    """Return the parent of a process; None where there is no such process any more."""
    stat = _text_of(Path(f"/proc/{pid}/stat"))
    return int(stat.rpartition(")")[2].split()[1]) if stat else None


def _text_of(path: Path) -> str:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return path.read_text()
    return ""


def _leads(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid) == pid
    return False


def signal_node(main_pid: int, number: int, *, but: int = 0) -> None:
    """Signal a node as a whole, its main process first; whoever calls this from inside comes last.

    Parameters:
        but: A group that is left out.
    """
    for group in sorted(groups_of(main_pid), key=lambda group: (group == os.getpgrp(), group != main_pid)):
        if group != but:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)


class Process:
    """A process that was started in the nursery, and its group; asked and told as a `subprocess.Popen` is."""

    def __init__(self, nursery: Nursery, pid: int, arguments: Sequence[str], log: Path) -> None:
        self.pid = pid
        self.arguments = arguments
        self.log = log
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Return how the main process ended: its exit status, -N for signal N, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.exit_status(self.pid)
        return self.returncode

    def wait(self, timeout_s: float) -> int:
        """Wait for the end of the main process and return how it ended.

        Raises:
            TimeoutError: It still runs after so many seconds.
        """
        self._await(lambda: self.poll() is not None, timeout_s)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int, *, group: bool = False) -> None:
        """Signal the main process, or it and all of its children; nothing happens once it has ended."""
        self._nursery.signal(self.pid, number, group=group)

    def kill(self) -> None:
        """Kill it and all of its children, and wait for their end."""
        self.send_signal(signal.SIGKILL, group=True)
        self._await(lambda: self._nursery.ended([self.pid], group=True), KILLED_S)

    def _await(self, ended: Callable[[], object], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not ended():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{' '.join(self.arguments)} still runs after {timeout_s:g} s")
            time.sleep(LOOK_EVERY_S)  # only its parent could await its end


class Nursery:
    """The process that forks. One object serves all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            # Ctrl-C in the terminal is for who started this.
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> Process:
        """Have `celery -A sosw_celery ARGUMENTS` running in a session and a group of its own.

        Parameters:
            environment: All of it. `PYTHONPATH` says where its modules are, beside those of the project.
            directory: The working directory.
            log: Takes what it prints, behind what is there; made when missing.
        """
        log.touch()
        order = {
            "do": "start",
            "arguments": ["celery", "-A", "sosw_celery", *arguments],
            "environment": dict(environment),
            "directory": str(directory),
            "log": str(log),
        }
        return Process(self, int(self._ask(order)), arguments, log)

    def signal(self, pid: int, number: int, *, group: bool = False) -> None:
        """Signal a process that was started here, or it and all of its children; nothing happens once it has ended."""
        self._ask({"do": "signal", "pid": pid, "number": int(number), "group": group})

    def ended(self, pids: Sequence[int], *, group: bool = False) -> list[int]:
        """Return which of the processes that were started here have ended, or have with all of their children."""
        found: list[int] = self._ask({"do": "ended", "pids": list(pids), "group": group})
        return found

    def exit_status(self, pid: int) -> int | None:
        """Return how a process that was started here ended, -N for signal N; None while it runs."""
        status: int | None = self._ask({"do": "exit_status", "pid": pid})
        return status

    def _ask(self, order: Mapping[str, object]) -> Any:
        with self._lock:
            assert self._process is not None
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


class _End(NamedTuple):
    at: float
    status: int


class _Children:
    """Who was started, as their parent knows it: no process is signalled that has got the number of one that ended.

    While a child was not waited for, nobody else gets its number; and for some seconds after that nobody does either,
    in which the rest of its group ends.
    """

    def __init__(self) -> None:
        self._ends: dict[int, _End] = {}
        self._started: set[int] = set()
        #: Of each whose group was signalled: that, and those of its children.
        self._groups: dict[int, set[int]] = {}

    def add(self, pid: int) -> None:
        """Take up a child."""
        self._started.add(pid)
        self._ends.pop(pid, None)

    def signal(self, pid: int, number: int, *, group: bool) -> bool:
        """Signal one of them, or its group; return whether it was there."""
        self._wait()
        end = self._ends.get(pid)
        if pid not in self._started or (end is not None and not (group and self._may_have_left(end.at))):
            return False
        if not group:
            return _reached(os.kill, pid, number)
        groups = self._groups.setdefault(pid, {pid})
        groups.update(groups_of(pid))
        # Its children end one by one while it runs, and their numbers come again. (An orphan is a child of ours.)
        groups -= {one for one in groups if _parent_of(one) not in (None, pid, os.getpid())}
        reached = [_reached(os.killpg, one, number) for one in sorted(groups, key=lambda one: one != pid)]
        return any(reached)

    def has_ended(self, pid: int, *, group: bool) -> bool:
        """Return whether a child has ended, or it and its group."""
        return not self.signal(pid, 0, group=group)

    def exit_status(self, pid: int) -> int | None:
        """Return how a child ended, or None while it runs."""
        self._wait()
        end = self._ends.get(pid)
        return None if end is None else end.status

    def end(self) -> None:
        """End them all."""
        for pid in self._started:
            self.signal(pid, signal.SIGKILL, group=True)

    @staticmethod
    def _may_have_left(ended_at: float) -> bool:
        return time.monotonic() - ended_at < GROUP_ENDS_S

    def _wait(self) -> None:
        """Take note of who has ended, orphans of the children included."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                self._ends[pid] = _End(time.monotonic(), os.waitstatus_to_exitcode(status))


def _reached(send: Callable[[int, int], None], pid: int, number: int) -> bool:
    try:
        send(pid, number)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Fork a process for each order on standard input, and end them all when it ends."""
    signals.take_defaults()
    for module in COMMON:
        importlib.import_module(module)
    if shared := OF_ONE_NODE & sys.modules.keys():
        raise RuntimeError(f"all nodes would share the memory of {', '.join(shared)}")
    _warm_up_boto()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # children whose parent was killed come to us
    gc.freeze()  # so that the children's collections do not copy what they share
    children = _Children()
    for line in sys.stdin:
        print(json.dumps(_carry_out(json.loads(line), children)), flush=True)
    children.end()


def _carry_out(order: Mapping[str, Any], children: _Children) -> object:
    if order["do"] == "ended":
        return [pid for pid in order["pids"] if children.has_ended(pid, group=order["group"])]
    if order["do"] == "signal":
        return children.signal(order["pid"], order["number"], group=order["group"])
    if order["do"] == "exit_status":
        return children.exit_status(order["pid"])
    pid = os.fork()
    if pid == 0:
        _become(order)
    children.add(pid)
    return pid


def _warm_up_boto() -> None:
    """Have the models of DynamoDB read: clients that are made of the default session after a fork find them there.

    With credentials of this client alone: the forks find theirs by themselves.
    """
    import boto3

    boto3.client(
        "dynamodb",
        endpoint_url="http://127.0.0.1:1",
        region_name="eu-west-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    ).close()


def _become(order: Mapping[str, Any]) -> None:
    """Turn this fork into the process that was asked for. Does not return."""
    status = 1
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, target)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(str(order["directory"]))
        sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
        sys.argv = list(order["arguments"])
        if "LD_PRELOAD" in os.environ:  # a library that has to be there from the first line on
            os.execv(sys.executable, [sys.executable, "-m", *sys.argv])
        status = _run_celery()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run_celery() -> int:
    from celery.__main__ import main as celery

    try:
        celery()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
