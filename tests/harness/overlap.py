"""How many of some spans of time overlap."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

__all__ = ["most_at_once"]


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return how many spans, from a start to an end, overlapped at the fullest instant.

    One that ends where another starts does not overlap it.
    """
    changes = [change for start, end in spans for change in ((start, 1), (end, -1))]
    return max(accumulate(step for _, step in sorted(changes)), default=0)
