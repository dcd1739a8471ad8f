"""What whoever starts us has said about signals (`nohup`, a shell, a runner) breaks no test and no process.

Each test starts something in a process in which SIGHUP, SIGINT and SIGQUIT are ignored, and they, SIGTERM and SIGCHLD
are blocked as well: more than any of these does.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.nursery import ROOT

#: Becomes the program in its arguments, as `nohup` would.
DEAF = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD])
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

#: One test for each way in which tests start processes and end them by signals.
SIGNALLING = (
    "tests/integration/test_local_stack.py::test_ctrl_c_reaches_the_owner_first_and_stops_the_servers_after_it",
    "tests/integration/test_local_stack.py::test_servers_end_when_a_signal_kills_their_owner[memory-1]",
    "tests/unit/cli/test_processes.py::test_finish_lets_a_process_end_by_itself",
)

#: Starts a process in the nursery, says whether it ignores or blocks a signal, and ends it by Ctrl-C.
IN_THE_NURSERY = """
import os, signal, sys, time
from pathlib import Path
from tests.nursery import Nursery
directory = Path(sys.argv[1])
environment = {**os.environ, "CELERY_CONFIG_MODULE": "celeryconfig", "PYTHONPATH": sys.argv[2], "SOSW_REDIS_URL": ""}
with Nursery() as nursery:
    beat = nursery.start(["beat", "-l", "INFO", "--pidfile="], environment, directory, directory / "log")
    while "beat: Starting" not in (directory / "log").read_text():
        assert beat.poll() is None, (directory / "log").read_text()
        time.sleep(0.05)
    status = dict(line.split(":", 1) for line in Path(f"/proc/{beat.pid}/status").read_text().splitlines())
    beat.send_signal(signal.SIGINT)
    print(int(status["SigIgn"], 16), int(status["SigBlk"], 16), beat.wait(20))
"""

#: Runs a process of Celery's as `up` and `demo` do, which says what it ignores and blocks.
SUPERVISED = """
import os, signal, sys
from sosw_celery.cli.processes import CeleryProcess, Role
from sosw_celery.cli.runtime import end_on_sigterm
class Script(Role):
    def command(self, log_level):
        return [sys.executable, "-c", *self.arguments]
said = '''
import signal
numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)
print([number.name for number in numbers if signal.getsignal(number) is signal.SIG_IGN])
print([signal.Signals(number).name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())])
'''
end_on_sigterm()
process = CeleryProcess(Script("script", (said,)), os.environ)
print(process.output.read().decode(), end="")
print(process.wait(10), process.exit_status)
print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def deaf(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, and signals ignored and blocked, until it ends."""
    command = [sys.executable, "-c", DEAF, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)


def test_tests_do_not_depend_on_what_was_ignored_and_blocked() -> None:
    """Tests that end processes by Ctrl-C, SIGHUP and SIGTERM, and that wait for their end, pass."""
    done = deaf("-m", "pytest", "-q", "-p", "no:cacheprovider", *SIGNALLING)
    assert done.returncode == 0, done.stdout


def test_the_processes_of_the_nursery_ignore_and_block_nothing(tmp_path: Path, redis_url: str) -> None:
    """A process under test ignores what Python always does, blocks nothing, and ends by Ctrl-C."""
    config = tmp_path / "celeryconfig.py"
    config.write_text(f"broker_url = {redis_url!r}\nsosw = {{'redis_url': broker_url}}\n")
    done = deaf("-c", IN_THE_NURSERY, str(tmp_path), f"{tmp_path}:{ROOT}")
    assert done.stderr == ""
    ignored, blocked, status = map(int, done.stdout.split())
    of_python = {signal.SIGPIPE, signal.SIGXFSZ}
    assert {number for number in signal.valid_signals() if ignored >> (number - 1) & 1} == of_python
    assert (blocked, status) == (0, 0)


def test_what_up_starts_ignores_and_blocks_nothing_while_up_itself_outlives_its_terminal() -> None:
    """The processes of `up` and `demo` start with the defaults; `nohup sosw-celery up` goes on ignoring SIGHUP."""
    done = deaf("-c", SUPERVISED)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[]", "[]", "True 0", "True False"]
