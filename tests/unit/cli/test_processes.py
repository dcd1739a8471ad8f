"""Processes under a supervisor: started, watched, killed, ended, whatever ends their owner."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sosw_celery.cli.processes import CeleryProcess, Processes, Role, beat, ending_words, essentials, labourer_node
from sosw_celery.cli.up import RESTART_MAX_S, STABLE_S, FirstStartFailed, Keeper, roles_of
from sosw_celery.config.settings import load_settings
from sosw_celery.system.exits import ExitCode


class Script(Role):
    """A role filled by a Python script instead of Celery."""

    def command(self, log_level: str = "INFO") -> list[str]:
        """Return the command line of the script."""
        return [sys.executable, "-u", "-c", *self.arguments]


#: Ends at SIGTERM, a moment later, with a word.
POLITE = Script(
    "polite",
    (
        "import signal, sys, threading; told = threading.Event(); "
        "signal.signal(signal.SIGTERM, lambda *_: told.set()); print('ready'); told.wait(); print('bye'); sys.exit(3)",
    ),
)
ENDLESS = Script("endless", ("import signal, threading; print('ready'); threading.Event().wait()",))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes with their logs in a directory."""
    with Processes(os.environ, tmp_path) as found:
        yield found


def await_(condition: Callable[[], object], what: str, timeout_s: float = 10) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def start(processes: Processes, role: Role) -> CeleryProcess:
    """Start a script and wait until it works."""
    process = processes.start(role)
    await_(lambda: "ready" in processes.log_of(role).read_text(), "ready")
    return process


def lives(pid: int) -> bool:
    """Return whether a process of this id runs (one that has ended and waits to be asked for does not)."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_finish_lets_a_process_end_by_itself(processes: Processes) -> None:
    """SIGTERM reaches the process and not its supervisor, and there is time for what it has to finish."""
    process = start(processes, POLITE)
    processes.finish(warm_s=10)
    assert process.exit_status == 3
    assert processes.log_of(POLITE).read_text() == "ready\nbye\n"
    assert processes.running == []


def test_finish_kills_what_does_not_end_in_time(processes: Processes) -> None:
    """A process that ignores SIGTERM does not keep the terminal for ever."""
    stubborn = Script("stubborn", ("import signal; signal.signal(15, signal.SIG_IGN); print('ready'); signal.pause()",))
    process = start(processes, stubborn)
    processes.finish(warm_s=0.1)
    assert process.exit_status == -signal.SIGKILL
    assert not lives(process.pid)


def test_a_crash_is_told_of_once(processes: Processes) -> None:
    """What has ended by itself is reported, with the way it ended, and forgotten."""
    process = start(processes, ENDLESS)
    assert processes.ended() == []
    os.kill(process.pid, signal.SIGSEGV)
    await_(lambda: process.exit_status is not None, "end")
    assert (processes.ended(), processes.ended()) == ([process], [])
    assert ending_words(process.exit_status) == f"killed by signal {int(signal.SIGSEGV)}"


def test_a_sacrifice_is_not_told_of(processes: Processes) -> None:
    """Who kills a process on purpose is not told that it has ended."""
    process = start(processes, ENDLESS)
    processes.sacrifice(process)
    assert not lives(process.pid)
    assert processes.ended() == []


def test_all_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    """A kill -9 of the owner leaves no process behind."""
    code = (
        "import os, pathlib, sys, time\n"
        "from sosw_celery.cli.processes import Processes, Role\n"
        "class Script(Role):\n"
        "    def command(self, log_level='INFO'):\n"
        "        return [sys.executable, '-c', 'import threading; threading.Event().wait()']\n"
        "process = Processes(os.environ, pathlib.Path(sys.argv[1])).start(Script('endless', ()))\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert lives(pid)
        owner.kill()
    await_(lambda: not lives(pid), "end of the process")


def test_two_starts_of_a_role_have_two_node_names() -> None:
    """RabbitMQ refuses a second node of one name, also while a killed one is not forgotten."""
    names = {command[command.index("-n") + 1] for command in (labourer_node("resize", 2).command() for _ in range(2))}
    assert len(names) == 2
    assert all(name.startswith("resize-") and name.endswith("@%h") for name in names)


def test_a_whole_system_is_one_essentials_worker_one_worker_per_labourer_and_beat() -> None:
    """A labourer's worker has as many processes as slots, but no more than there are CPUs, unless told otherwise."""
    settings = load_settings({"labourers": {"one": {}, "many": {"max_simultaneous_invocations": 10_000}}})
    roles = [role for role, _ in roles_of(settings, Path("/data/beat"))]
    assert [role.name for role in roles] == ["essentials", "one", "many", "beat"]
    concurrency = {role.name: role.command()[role.command().index("-c") + 1] for role in roles[1:3]}
    assert concurrency == {"one": "1", "many": str(os.cpu_count())}
    forced = dict(roles_of(settings, Path("/data/beat"), concurrency=7))
    assert all("7" in role.arguments for role in forced if role.name in ("one", "many"))
    assert essentials(3) in [role for role, _ in roles_of(settings, Path("/data/beat"))]
    assert beat(Path("/data/beat")) == roles[-1]


@dataclass
class FakeProcess:
    """A process that ends when a test says so."""

    role: Role
    started_at: float
    pid: int = 1
    exit_status: int | None = None


@dataclass
class FakeProcesses:
    """Starts nothing, remembers all."""

    clock: list[float]
    running: list[FakeProcess] = field(default_factory=list)

    def start(self, role: Role, log_level: str) -> FakeProcess:
        """Return a new process."""
        self.running.append(FakeProcess(role, self.clock[0]))
        return self.running[-1]

    def ended(self) -> list[FakeProcess]:
        """Return what has ended since the last call."""
        ended = [process for process in self.running if process.exit_status is not None]
        self.running = [process for process in self.running if process.exit_status is None]
        return ended


@pytest.mark.parametrize(("status", "code"), [(7, ExitCode.CONFIG), (1, ExitCode.FAILURE)])
def test_a_role_whose_first_process_gives_up_is_not_filled_again(status: int, code: ExitCode) -> None:
    """It would give up again: its line would come back for ever. Later, or when it was killed, it is started again."""
    clock = [0.0]
    processes = FakeProcesses(clock)
    keeper = Keeper(processes, lambda process: None, lambda text: None, lambda: clock[0])  # type: ignore[arg-type]
    keeper.fill(ENDLESS, "INFO")
    processes.running[0].exit_status = -9
    keeper.look()
    clock[0] += 1
    keeper.look()
    processes.running[0].exit_status = status
    keeper.look()  # no first start any more: it has worked before
    keeper.fill(POLITE, "INFO")
    processes.running[0].exit_status = status
    with pytest.raises(FirstStartFailed, match=r"polite did not start \(exit status") as failed:
        keeper.look()
    assert failed.value.code is code


def test_a_role_is_filled_again_after_pauses_that_grow() -> None:
    """A worker that crashes at once is not restarted in a tight loop; one that worked for a while is again at once."""
    clock = [0.0]
    processes = FakeProcesses(clock)
    said: list[str] = []
    keeper = Keeper(processes, lambda process: None, said.append, lambda: clock[0])  # type: ignore[arg-type]
    keeper.fill(ENDLESS, "INFO")

    def crash_and_measure() -> float:
        processes.running[0].exit_status = -9
        keeper.look()
        since = clock[0]
        while not processes.running:
            clock[0] += 0.25
            keeper.look()
        return clock[0] - since

    pauses = [crash_and_measure() for _ in range(7)]
    assert pauses == [1, 2, 4, 8, 16, RESTART_MAX_S, RESTART_MAX_S]
    assert "endless has ended (killed by signal 9), again in 1 s" in said
    clock[0] += STABLE_S + 1
    assert crash_and_measure() == 1
