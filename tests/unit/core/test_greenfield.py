"""The number that orders a queue and tells a task's state."""

from __future__ import annotations

import itertools
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core import greenfield

DELTA = Decimal(31_557_600)
TIMES = st.decimals(min_value=10**9, max_value=4 * 10**9, places=6)
CLOCK_DIFFERENCES = st.decimals(min_value=-80_000, max_value=80_000, places=6)


@given(now=TIMES)
def test_positions_increase_strictly_from_now(now: Decimal) -> None:
    """New tasks stand in the order in which they were written, from the time of the first."""
    first = list(itertools.islice(greenfield.positions(now), 100))
    assert first[0] == now
    assert all(earlier < later for earlier, later in itertools.pairwise(first))


@given(now=TIMES, difference=CLOCK_DIFFERENCES)
def test_clocks_that_differ_do_not_change_a_tasks_state(now: Decimal, difference: Decimal) -> None:
    """A task written or claimed by one clock is queued or running by another one, hours away."""
    end = greenfield.queue_end(now + difference)
    assert now <= end
    assert greenfield.claimed(now, DELTA) > end


@given(now=TIMES, count=st.integers(1, 50), lead=st.decimals(min_value=0, max_value=10**6, places=6))
def test_retries_stand_before_the_oldest_in_order(now: Decimal, count: int, lead: Decimal) -> None:
    """Retried tasks come before the head of the queue, the first due first."""
    oldest = now - lead
    places = list(greenfield.retry_positions(oldest, now, count))
    assert places == sorted(places)
    assert len(set(places)) == count
    assert places[-1] < oldest
    assert greenfield.retry_positions(None, now, count)[-1] < now


@given(now=TIMES)
def test_the_time_of_a_claim_can_be_read_back(now: Decimal) -> None:
    """A running task's greenfield tells when it was claimed."""
    assert greenfield.claimed_at(greenfield.claimed(now, DELTA), DELTA) == now
