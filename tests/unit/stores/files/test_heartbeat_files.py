"""Pulses in files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sosw_celery.core.node_liveness import Pulse
from sosw_celery.stores.files.heartbeat_files import DIRECTORY, PulseFiles


def pulse(node: str, pid: int | None = None, accepted: int = 0) -> Pulse:
    """Return the pulse of a node; the process is this one unless stated."""
    return Pulse(node, pid or os.getpid(), ("q",), 1, 0, accepted, 1.0, 1.0, 1.0, 20.0)


def test_the_last_pulse_of_each_node_is_kept(tmp_path: Path) -> None:
    """A node's pulse replaces the one before, those of others stay, and no other file is left."""
    files = PulseFiles(tmp_path / "new")
    for number in range(3):
        files.put(pulse("a@host", accepted=number))
    files.put(pulse("b@host"))
    assert [(one.node, one.accepted) for one in files.all()] == [("a@host", 2), ("b@host", 0)]
    files.remove("a@host")
    files.remove("a@host")
    assert files.get("a@host") is None
    assert len(os.listdir(files.path)) == 1


@pytest.mark.parametrize("node", ["../../etc/x", "/etc/x", "a\0b", "..", "x" * 500, "%2e%2e@h", "ä\ud800"])
def test_no_name_of_a_node_leads_out_of_the_directory(tmp_path: Path, node: str) -> None:
    """Whatever a node is called, its file stands directly in the directory."""
    files = PulseFiles(tmp_path / "inner")
    try:
        files.put(pulse(node))
    except UnicodeEncodeError:
        assert "\ud800" in node
    assert all(path.parent == files.path for path in tmp_path.rglob("*") if path.is_file())
    assert os.listdir(tmp_path) in (["inner"], [])


def test_what_cannot_be_read_is_no_pulse(tmp_path: Path) -> None:
    """A broken file is passed by, so that one node's trouble hides no other."""
    files = PulseFiles(tmp_path)
    files.put(pulse("a@host"))
    (tmp_path / "b@host.pulse").write_bytes(b"\xff{")
    assert [one.node for one in files.all()] == ["a@host"]


def test_only_pulses_of_dead_processes_are_cleared(tmp_path: Path) -> None:
    """A node that was killed leaves its pulse behind; the next one on the machine clears it away."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    files = PulseFiles(tmp_path)
    files.put(pulse("killed@host", pid=dead.pid))
    files.put(pulse("other@host"))
    files.clear_dead()
    assert [one.node for one in files.all()] == ["other@host"]


def test_only_this_user_can_read_the_directory_that_is_made(tmp_path: Path) -> None:
    """The directory is the user's own."""
    files = PulseFiles(tmp_path / "own")
    files.put(pulse("a@host"))
    assert files.path.stat().st_mode & 0o077 == 0


def test_the_environment_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker and probe find each other by the variable, or by a directory of the user's own."""
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    assert PulseFiles().path == tmp_path
    monkeypatch.delenv(DIRECTORY)
    assert PulseFiles().path.name == f"sosw-celery-{os.getuid()}"
