"""The demo as `make demo` runs it, smaller: it ends well, or it ends clean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.shell import Shell, await_


def start(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """Start the demo in a directory without a celeryconfig, its temporary files in a directory of the test."""
    environment = {**Shell(tmp_path).environment, "TMPDIR": str(tmp_path), "SOSW_TEST": str(tmp_path)}
    return subprocess.Popen(
        ["sosw-celery", "demo", *options],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(tmp_path: Path) -> list[int]:
    """Return every process that has inherited the environment of a demo of this test."""
    mark = f"SOSW_TEST={tmp_path}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


@pytest.mark.slow
def test_the_demo_proves_itself_and_leaves_nothing(tmp_path: Path) -> None:
    """From any directory: a worker is killed, every check holds, the exit code is 0, all is cleaned up."""
    demo = start(tmp_path, "--modules", "300", "--json")
    out, err = demo.communicate(timeout=110)
    assert demo.returncode == 0, err
    outcome = json.loads(out)
    assert outcome["holds"]
    assert len(outcome["checks"]) == 5
    assert [job["labourer_id"] for job in outcome["jobs"]] == ["code_census", "import_census"]
    assert all(job["completed"] == job["tasks"] and not job["dead"] for job in outcome["jobs"])
    assert "killed the worker node of code_census" in err
    assert "started a new worker node" in err
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_ended_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, a SIGTERM or a kill in the midst of it: servers and workers end as well, and the code tells which."""
    demo = start(tmp_path)
    assert demo.stdout is not None
    while "submitted a job" not in demo.stdout.readline():
        assert demo.poll() is None
    demo.send_signal(number)
    demo.communicate(timeout=30)
    assert demo.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    await_(lambda: not processes_of(tmp_path), lambda: f"end of {processes_of(tmp_path)}")


def test_a_demo_whose_worker_dies_by_itself_fails_and_shows_why(tmp_path: Path) -> None:
    """The end of each log is shown, the logs are kept, and the code is not 0."""
    demo = start(tmp_path)
    assert demo.stdout is not None
    while "submitted a job" not in demo.stdout.readline():
        assert demo.poll() is None
    (beat,) = [pid for pid in processes_of(tmp_path) if is_beat(pid)]
    os.kill(beat, signal.SIGKILL)
    _, err = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "--- beat.log" in err
    assert "error: beat has ended by itself (killed by signal 9)" in err
    (logs,) = tmp_path.glob("sosw-celery-demo-*")
    assert f"the logs are in {logs}" in err
    assert {path.name for path in logs.glob("*.log")} >= {"beat.log", "code_census.log", "essentials.log"}
    assert processes_of(tmp_path) == []


def is_beat(pid: int) -> bool:
    """Return whether a process is beat itself, not its supervisor."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return b"beat" in words and b"-S" not in words
