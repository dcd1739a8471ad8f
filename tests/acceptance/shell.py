"""Commands as a shell runs them: the console scripts of the installed package, in a directory of the user's.

Nothing of the checkout helps them: no PYTHONPATH, another working directory, an environment of a few variables, and a
terminal of 80 columns.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Any

__all__ = ["SCRIPTS", "Desk", "Shell", "await_", "descendants", "kill", "lives"]

#: Where pip has put the console scripts of this environment.
SCRIPTS = Path(sys.executable).parent

COLUMNS, LINES = 80, 24
#: Seconds after which a command has hung.
TIMEOUT_S = 60


class Shell:
    """A directory of a user's, and the commands that are typed there.

    Parameters:
        environment: Variables beside those that every login has.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True, parents=True)
        self.environment = {
            "PATH": f"{SCRIPTS}:/usr/bin:/bin",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "COLUMNS": str(COLUMNS),
            "LINES": str(LINES),
            **{name: os.environ[name] for name in ("SOSW_CACHE", "TMPDIR") if name in os.environ},
            **(environment or {}),
        }

    def write(self, name: str, text: str) -> Path:
        """Write a file into the directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(
        self, *command: str, stdin: str | None = None, timeout_s: float = TIMEOUT_S, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command,
            cwd=self.directory,
            env={**self.environment, **environment},
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *command: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command whose output is appended to a file."""
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def in_terminal(self, *command: str, timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
        """Run a command in a terminal of 80 x 24; return its exit status and all that it wrote there."""
        main, terminal = pty.openpty()
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {**self.environment, "TERM": "xterm-256color"}
        with subprocess.Popen(
            command, cwd=self.directory, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
        ) as process:
            os.close(terminal)
            written = _read_all(main, process, timeout_s)
        os.close(main)
        return process.returncode, written


def _read_all(main: int, process: subprocess.Popen[bytes], timeout_s: float) -> str:
    """Return what a process writes to its terminal until it ends."""
    chunks: list[bytes] = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ready, _, _ = select.select([main], [], [], 0.2)
        if ready:
            try:
                chunk = os.read(main, 65536)
            except OSError:  # Linux says EIO when the last process has let go of the terminal
                chunk = b""
            if not chunk:
                return b"".join(chunks).decode(errors="replace")
            chunks.append(chunk)
        elif process.poll() is not None:
            return b"".join(chunks).decode(errors="replace")
    process.kill()
    raise AssertionError(f"still runs after {timeout_s:g} s:\n{b''.join(chunks).decode(errors='replace')}")


class Desk(Shell):
    """A directory with a configuration and labourers, and everything up where a test wants it."""

    CONFIG = """
import os

broker_url = result_backend = os.environ.get("SOSW_REDIS_URL", "redis://127.0.0.1:1/0")
imports = ("labourers",)
sosw = {
    "redis_url": broker_url,
    "dynamodb_endpoint": os.environ.get("SOSW_DYNAMODB_ENDPOINT"),
    "queue_bucket": os.environ.get("SOSW_QUEUE_BUCKET", "file:///nowhere"),
    "job_schema": {"chunkable_attrs": ["item"]},
    "labourers": {
        "work": {"max_simultaneous_invocations": 2, "duration": 30, "max_attempts": 5, "retry_backoff": 0.1},
        "fragile": {"duration": 30, "max_attempts": 1},
    },
    "lease_s": 4, "renew_s": 1, "settle_s": 1.5, "hint_lease_s": 4, "sweep_s": 0.5, "safety_net_s": 1,
}
"""
    LABOURERS = """
import pathlib, time
from sosw_celery import Worker, app

def run(event):
    for item in event["items"]:
        if item == "broken":
            raise ValueError("broken on purpose")
        if item.startswith("gate"):
            pathlib.Path(f"{item}.reached").touch()
            while not pathlib.Path(f"{item}.open").exists():
                time.sleep(0.02)
    return {"items": len(event["items"])}

@app.task(base=Worker, name="work")
def work(event):
    return run(event)

@app.task(base=Worker, name="fragile")
def fragile(event):
    return run(event)
"""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.write("celeryconfig.py", self.CONFIG)
        self.write("labourers.py", self.LABOURERS)
        self.log = directory / "up.log"
        self._ups: list[subprocess.Popen[bytes]] = []

    def sosw(self, *arguments: str, job: Any = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end, with a job on its standard input."""
        return self.run("sosw-celery", *arguments, stdin=None if job is None else json.dumps(job), **environment)

    def json(self, *arguments: str, job: Any = None) -> Any:
        """Run a command of ours that ends well, and return its JSON."""
        done = self.sosw(*arguments, "--json", job=job)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def up(self, *, ready: int = 3, **environment: str) -> subprocess.Popen[bytes]:
        """Start everything, and return once that many workers work."""
        self.log.write_bytes(b"")
        process = self.start("sosw-celery", "up", "-l", "INFO", log=self.log, **environment)
        self._ups.append(process)
        await_(lambda: self.log.read_text().count("ready.") == ready, lambda: f"workers\n{self.log.read_text()}")
        return process

    def end(self) -> None:
        """End everything at once."""
        for process in self._ups:
            for pid in [*descendants(process.pid), process.pid]:
                kill(pid)
            process.wait()

    def reached(self, gate: str) -> bool:
        """Return whether a task stands at the gate."""
        return (self.directory / f"{gate}.reached").exists()

    def open(self, gate: str) -> None:
        """Let all tasks through the gate, now and later."""
        (self.directory / f"{gate}.open").touch()

    def pid_of(self, role: str) -> int:
        """Return the id of the process that fills a role now."""
        return int(re.findall(rf"started {role}, process (\d+)", self.log.read_text())[-1])


def await_(condition: Callable[[], object], what: Callable[[], str], timeout_s: float = 60) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def descendants(pid: int) -> Sequence[int]:
    """Return all processes that a process has started, directly or not."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def kill(pid: int) -> None:
    """Kill a process that may be gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def lives(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
