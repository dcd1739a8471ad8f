"""Processes whose clock is wrong, or jumps, by libfaketime: an environment for who is to live in another time.

Everything in the process that asks what time it is gets the wrong answer, C code included. What measures spans
(`time.monotonic`, sleeps, time-outs, timers) stays right, and so does whatever other processes do: Redis, the tables'
engine.
"""

from __future__ import annotations

import atexit
import importlib.util
import platform
import sys
from pathlib import Path

__all__ = ["IS_AVAILABLE", "ChangingClock", "clean_up", "wrong_clock"]

#: The package carries the library for these machines only.
IS_AVAILABLE = sys.platform == "linux" and platform.machine() == "x86_64"

SHARED_MEMORY = Path("/dev/shm")
#: Seconds after which a process has noticed at the latest that its clock was changed.
NOTICED_S = 1


def wrong_clock(off_s: int) -> dict[str, str]:
    """Return what a process needs in its environment for a clock that is so many seconds fast; negative is slow.

    Its children inherit that. It can be changed in the process by `os.environ["FAKETIME"] = "-300"`, as after a fork
    of one that was started with `wrong_clock(0)`.
    """
    atexit.register(clean_up)
    return {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": f"{off_s:+d}",
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


class ChangingClock:
    """A clock that can be changed while the process runs that has it; right at first.

    Parameters:
        file: Tells the process how wrong its clock is.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.off_s = 0.0
        self.jump(0)
        atexit.register(clean_up)
        self.environment = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": str(NOTICED_S),
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, by_s: float) -> None:
        """Have the clock jump ahead, or back, `NOTICED_S` from now at the latest."""
        self.off_s += by_s
        new = self._file.with_suffix(".new")
        new.write_text(f"{self.off_s:+f}")
        new.replace(self._file)


def clean_up() -> None:
    """Remove what processes with a wrong clock that were killed have left in shared memory."""
    for left in SHARED_MEMORY.glob("*faketime_s*_*"):
        if not Path(f"/proc/{left.name.rpartition('_')[2]}").exists():
            left.unlink(missing_ok=True)


def _library() -> Path:
    package = importlib.util.find_spec("libfaketime")
    if package is None or package.origin is None:
        raise RuntimeError("libfaketime: expected to be installed, it is in the extra `test`")
    (library,) = Path(package.origin).parent.rglob("libfaketime.so.1")
    return library
