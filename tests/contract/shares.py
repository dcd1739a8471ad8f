"""A large cap, of which tests take the share that leaves as many slots as they need."""

from __future__ import annotations

__all__ = ["CAP", "share"]

CAP = 1000


def share(limit: int) -> float:
    """Return the share of the cap that leaves so many slots."""
    return limit / CAP
