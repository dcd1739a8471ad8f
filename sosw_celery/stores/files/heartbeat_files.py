"""Pulses of this machine's worker nodes: one file each, for a probe in the same container. No server is asked.

They stand in the directory `SOSW_HEALTH_DIR`, by default one of this user's own under the temporary directory.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sosw_celery.core.node_liveness import Pulse

__all__ = ["DIRECTORY", "PulseFiles", "is_there"]

#: The variable that names the directory.
DIRECTORY = "SOSW_HEALTH_DIR"

SUFFIX = ".pulse"


class PulseFiles:
    """The pulses in a directory, which is made when first needed.

    Parameters:
        path: None takes the one that the environment names, or the default.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _default_path()

    def put(self, pulse: Pulse) -> None:
        """Replace the node's pulse, in one step.

        Raises:
            OSError: It cannot be written, or the directory belongs to another user.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.path} belongs to another user; set {DIRECTORY}")
        place = self._place(pulse.node)
        part = place.with_name(f".{place.name}.{pulse.pid}")
        part.write_text(pulse.as_text(), encoding="utf-8")
        part.replace(place)

    def remove(self, node: str) -> None:
        """Remove the node's pulse: it has ended in good order."""
        with contextlib.suppress(OSError):
            self._place(node).unlink()

    def clear_dead(self) -> None:
        """Remove the pulses of nodes whose processes are gone: whoever killed them knows."""
        for pulse in self.all():
            if not is_there(pulse.pid):
                self.remove(pulse.node)

    def get(self, node: str) -> Pulse | None:
        """Return the last pulse of a node; None when there is none, or it cannot be read."""
        return _pulse_in(self._place(node))

    def all(self) -> Iterator[Pulse]:
        """Yield the last pulse of every node that has one here, by name."""
        for place in sorted(self.path.glob(f"*{SUFFIX}")):
            pulse = _pulse_in(place)
            if pulse is not None:
                yield pulse

    def _place(self, node: str) -> Path:
        # Without a slash whatever the node is called, and no longer than file systems allow.
        return self.path / f"{quote(node, safe='@')[:200]}{SUFFIX}"


def is_there(pid: int) -> bool:
    """Return whether a process of this id runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _pulse_in(place: Path) -> Pulse | None:
    try:
        return Pulse.from_text(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _default_path() -> Path:
    named = os.environ.get(DIRECTORY)
    return Path(named) if named else Path(tempfile.gettempdir()) / f"sosw-celery-{os.getuid()}"
