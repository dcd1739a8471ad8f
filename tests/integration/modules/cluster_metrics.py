"""Metrics of the tests that are functions."""

from __future__ import annotations

import time


def hang() -> float:
    """Never answer."""
    time.sleep(3600)
    return 0.0


def fail() -> float:
    """Raise what nobody expects."""
    raise ZeroDivisionError("of nothing")
