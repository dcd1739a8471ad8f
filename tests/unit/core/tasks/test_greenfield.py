"""The number that orders a queue and tells a task's state."""

from __future__ import annotations

import itertools
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core.tasks import greenfield

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


@given(due=st.lists(TIMES, min_size=2), now=TIMES)
def test_retries_stand_before_all_others_in_the_order_in_which_they_fall_due(due: list[Decimal], now: Decimal) -> None:
    """Whichever are put back together: the earlier is due, the earlier it comes, and before what was written since."""
    places = [greenfield.retry_position(at) for at in sorted(due)]
    assert places == sorted(places)
    assert len(set(places)) == len(set(due))
    written = next(greenfield.positions(now))
    assert all(place < written for place, at in zip(places, sorted(due), strict=True) if at < now + 315_576_000)


@given(now=TIMES)
def test_the_time_of_a_claim_can_be_read_back(now: Decimal) -> None:
    """A running task's greenfield tells when it was claimed."""
    assert greenfield.claimed_at(greenfield.claimed(now, DELTA), DELTA) == now
