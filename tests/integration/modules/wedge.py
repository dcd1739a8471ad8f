"""A remote control command that blocks the worker's event loop: a fault to be noticed."""

from __future__ import annotations

import time
from typing import Any

from celery.worker.control import control_command


@control_command(args=[("seconds", float)], signature="SECONDS")
def wedge(state: Any, seconds: float) -> dict[str, str]:
    """Have the loop stand still for some seconds."""
    time.sleep(seconds)
    return {"ok": "turns again"}
