"""How often something may happen, in Celery's notation: `10/s`, `100/m`, `1000/h`."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Rate", "parse_rate"]

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
EXPECTED = "a rate above 0 as '10/s', '100/m', '1000/h', or a plain number per second"


@dataclass(frozen=True)
class Rate:
    """`count` times in `per_s` seconds, both above 0.

    Over any t seconds at most `burst` + t / `interval_s` of them happen.

    Parameters:
        at_once: How many may come at once after a pause, where that is stated.
    """

    count: float
    per_s: float = 1.0
    at_once: int | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) and number > 0 for number in (self.count, self.per_s)):
            raise ValueError(f"expected a count and seconds above 0, got {self.count:g} in {self.per_s:g} s")

    @property
    def interval_s(self) -> float:
        """Seconds from one to the next when they come evenly."""
        return self.per_s / self.count

    @property
    def burst(self) -> int:
        """How many may come at once after a pause: unless stated, what is due in a tenth of a second, at least 1.

        So a fast rate does not lose what came due while nobody looked, and a slow one does not start with a heap.
        """
        return max(1, int(self.count / self.per_s / 10)) if self.at_once is None else self.at_once


def parse_rate(text: str | float) -> Rate:
    """Return the rate that a setting in Celery's notation states.

    Parameters:
        text: A number, alone (per second) or followed by `/s`, `/m` or `/h`; spaces around it do not matter.

    Raises:
        ValueError: It is none of these, or not above 0; the text says what is expected.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(EXPECTED)
    number, slash, unit = str(text).strip().partition("/")
    try:
        return Rate(float(number), UNITS_S[unit] if slash else 1.0)
    except (KeyError, ValueError):
        raise ValueError(EXPECTED) from None
