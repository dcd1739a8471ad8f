"""`sosw-celery health` on pulses that were put there."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sosw_celery.cli import sosw
from sosw_celery.core.node_liveness import Pulse
from sosw_celery.stores.files.heartbeat_files import DIRECTORY, PulseFiles


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PulseFiles:
    """An empty directory of pulses, which the command reads."""
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    return PulseFiles()


def well(node: str) -> Pulse:
    """Return the pulse of a node of this very process that is in perfect health."""
    now = time.monotonic()
    return Pulse(node, os.getpid(), ("q",), 2, 1, 3, now, now, now, 20.0, now, now)


def test_a_node_may_be_named_as_the_worker_was(files: PulseFiles) -> None:
    """`%h` is this host, and a name without a host is one, as for `celery worker -n`."""
    host = socket.gethostname()
    files.put(well(f"resize@{host}"))
    files.put(well("celery@there"))
    for name in ("resize@%h", f"resize@{host}", "there"):
        assert CliRunner().invoke(sosw, ["health", "-n", name]).exit_code == 0, name
    assert CliRunner().invoke(sosw, ["health", "-n", "resiz@%h"]).exit_code == 1


def test_all_nodes_of_the_machine_have_to_be_alive(files: PulseFiles) -> None:
    """One that is not makes the command fail, and the line says which and why."""
    files.put(well("a@host"))
    files.put(replace(well("b@host"), turned_at=time.monotonic() - 100, broker_since=time.monotonic() - 100))
    answer = CliRunner().invoke(sosw, ["health"])
    assert answer.exit_code == 1
    assert "a@host: alive" in answer.stdout
    assert "b@host: not alive: its event loop" in answer.stderr
    assert CliRunner().invoke(sosw, ["health", "--limit", "200"]).exit_code == 0


def test_no_node_at_all_is_a_failure_that_names_the_directory(files: PulseFiles) -> None:
    """A probe that looks into the wrong place does not pass."""
    answer = CliRunner().invoke(sosw, ["health"])
    assert answer.exit_code == 1
    assert str(files.path) in answer.stderr
    assert DIRECTORY in answer.stderr


def test_programs_get_json(files: PulseFiles) -> None:
    """All that is told to people is told to programs."""
    files.put(well("a@host"))
    (shown,) = json.loads(CliRunner().invoke(sosw, ["health", "--json"]).stdout)
    assert (shown["node"], shown["alive"], shown["busy"], shown["accepted"]) == ("a@host", True, 1, 3)
