"""The pass over all starts finds what looking at every span of time finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.evidence import Rate
from tests.faults.rates import ROUNDING, Span, worst_span

LATE_S = 0.1


def excess(starts: list[float], rate: Rate, first: int, last: int) -> float:
    """Return how many starts of a span were too many."""
    return last - first + 1 - rate.burst - rate.per_s * (starts[last] - starts[first] + LATE_S)


@given(
    st.lists(st.floats(0, 20), max_size=30).map(sorted),
    st.builds(Rate, burst=st.integers(1, 5), per_s=st.floats(0.1, 20)),
)
def test_the_worst_span_is_the_worst_of_all(starts: list[float], rate: Rate) -> None:
    """Of all spans none has more starts beyond the rate; where none has any, nothing is found."""
    spans = [(first, last) for last in range(len(starts)) for first in range(last + 1)]
    worst = max([excess(starts, rate, *span) for span in spans], default=0.0)
    found = worst_span(starts, rate, LATE_S)
    if found is None:
        assert worst <= 2 * ROUNDING
    else:
        assert found.excess == pytest.approx(worst, abs=ROUNDING)
        assert excess(starts, rate, found.first, found.last) == pytest.approx(worst, abs=ROUNDING)


@pytest.mark.parametrize(
    ("starts", "found"),
    [
        ([0.0, 0.5, 1.0, 1.5], None),
        ([0.0, 0.0, 0.5, 1.0], None),  # the burst
        ([0.0, 0.4, 0.9, 1.4], None),  # each 0.1 s late, or early
        ([5.0, 5.0, 5.0], (0, 2)),
        ([0.0, 0.9, 1.9, 1.9, 1.9, 2.9], (2, 4)),
        ([0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8], (0, 7)),  # a little too fast, for long
    ],
)
def test_what_is_too_much(starts: list[float], found: tuple[int, int] | None) -> None:
    """Two a second with a burst of 2: heaps are found, and so is a rate that is a little too high for long."""
    span = worst_span(starts, Rate(2, 2), LATE_S)
    assert (span and (span.first, span.last)) == found
    assert span is None or isinstance(span, Span)
