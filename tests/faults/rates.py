"""How often bodies started, over any span of time. Pure.

Starts `i` to `j` are too many when j - i + 1 > burst + per_s x (t_j - t_i + late), where `late` is what may pass from
the start that is counted to the first line of a body. With f(k) = k - per_s x t_k that is

    f(j) - f(i) + 1 > burst + per_s x late

and the worst `i` for a `j` is the one with the least f so far: so one pass over all starts decides on all spans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.evidence import Rate

__all__ = ["Span", "worst_span"]

#: What sums of floating-point numbers may be off.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Span:
    """Starts in a row.

    Parameters:
        excess: How many of them were too many.
    """

    first: int
    last: int
    excess: float


def worst_span(starts: Sequence[float], rate: Rate, late_s: float) -> Span | None:
    """Return the span of time in which most starts were too many, None where none was in any.

    Parameters:
        starts: In their order, seconds.
    """
    worst: Span | None = None
    least, first = math.inf, 0
    for last, at in enumerate(starts):
        here = last - rate.per_s * at
        if here < least:
            least, first = here, last
        excess = here - least + 1 - rate.burst - rate.per_s * late_s
        if excess > ROUNDING and (worst is None or excess > worst.excess):
            worst = Span(first, last, excess)
    return worst
