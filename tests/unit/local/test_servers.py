"""What is read of a server's log; the servers themselves are in the integration tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sosw_celery.local import servers
from sosw_celery.local.servers import Server

WORDS = 20_000
SERVER = f"import os, signal\nfor n in range({WORDS}): os.write(2, b'%d ' % n)\nos.write(2, b'ready')\nsignal.pause()"


class Talkative(Server):
    """Writes its log in many small pieces, and answers once it has."""

    name = "talkative"

    def command(self) -> list[str]:
        """Write every number, then that it is ready."""
        return [sys.executable, "-I", "-S", "-c", SERVER]

    def answers(self) -> bool:
        """Look for the last word."""
        return "ready" in self._log_tail()


def test_a_log_that_is_read_while_it_is_written_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a server's line does not scramble it: a start would fail though the server answers."""
    monkeypatch.setattr(servers, "POLL_S", 0)
    with Talkative(tmp_path):
        assert (tmp_path / "server.log").read_text().split() == [*map(str, range(WORDS)), "ready"]
