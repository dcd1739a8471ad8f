"""What becomes of a failed attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core.tasks.retrying import Dead, Retry, RetryPolicy, decide
from sosw_celery.delays import LONGEST_DELAY_S

POLICY = RetryPolicy(max_attempts=5, backoff_s=2, backoff_max_s=10, jitter=False)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param(1, Retry(2), id="first wait is the backoff"),
        pytest.param(2, Retry(4), id="doubled with each attempt"),
        pytest.param(4, Retry(10), id="up to the maximum"),
        pytest.param(5, Dead(), id="the last attempt failed"),
        pytest.param(6, Dead(), id="more attempts than now allowed"),
    ],
)
def test_waits_double_until_the_attempts_are_used_up(attempts: int, expected: Retry | Dead) -> None:
    """The wait doubles with each attempt, and after the last one the task is dead."""
    assert decide(POLICY, attempts, chance=0.5) == expected


def test_a_wait_that_the_worker_asked_for_is_taken_as_it_is() -> None:
    """A wanted delay knows neither backoff nor maximum nor jitter, but the number of attempts."""
    policy = RetryPolicy(max_attempts=2, backoff_s=2, backoff_max_s=10, jitter=True)
    assert decide(policy, 1, chance=0.1, wanted_delay_s=3600) == Retry(3600)
    assert decide(policy, 1, chance=0.1, wanted_delay_s=-5) == Retry(0)
    assert decide(policy, 2, chance=0.1, wanted_delay_s=3600) == Dead()


@given(
    attempts=st.integers(1, 10_000),
    chance=st.floats(0, 1, exclude_max=True),
    backoff=st.floats(0, 1e6),
    maximum=st.floats(0, 1e6),
)
def test_a_wait_is_never_longer_than_the_maximum(attempts: int, chance: float, backoff: float, maximum: float) -> None:
    """Whatever the policy and the chance, a retry waits between 0 and `backoff_max_s` seconds."""
    verdict = decide(RetryPolicy(10_001, backoff, maximum, jitter=True), attempts, chance)
    assert isinstance(verdict, Retry)
    assert 0 <= verdict.delay_s <= maximum


@given(wanted=st.floats(), backoff=st.floats(0), maximum=st.floats(0))
def test_no_wait_is_longer_than_ten_years(wanted: float, backoff: float, maximum: float) -> None:
    """Whatever was asked for and configured, not-a-number and infinity too, a wait is a number of seconds."""
    policy = RetryPolicy(3, backoff, maximum, jitter=False)
    for verdict in (decide(policy, 1, 0.5, wanted), decide(policy, 1, 0.5)):
        assert isinstance(verdict, Retry)
        assert 0 <= verdict.delay_s <= LONGEST_DELAY_S
