"""The wait for the rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.tasks.model import Attempt
from sosw_celery.errors import StoreUnavailable
from sosw_celery.services.starts import Starts, Verdict
from sosw_celery.stores.redis.slots import Start

ATTEMPT = Attempt("resize", "task", 1)
NOW, SOON, LOST = Start(True, 0), Start(True, 4), Start(False, 0, is_lost=True)


class World:
    """A clock that stands still but for sleeps, and a store that answers what a test says."""

    def __init__(self, *answers: Start | Exception) -> None:
        self.time = 100.0
        self.answers = list(answers)
        self.answers_in_s = 0.0
        self.oversleeps_s = [0.0] * 100
        self.stops_at = float("inf")
        self.starts = Starts(self, steady=lambda: self.time, sleep=self._sleep)  # type: ignore[arg-type]

    def start(self, labourer_id: str, holder: str) -> Start:
        """Answer as the slot store."""
        assert (labourer_id, holder) == ("resize", "task/1")
        self.time += self.answers_in_s
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self) -> Verdict:
        """Wait as a worker does."""
        return self.starts.wait(ATTEMPT, lambda: self.time >= self.stops_at)

    def _sleep(self, seconds: float) -> None:
        self.time += seconds + (self.oversleeps_s.pop(0) if seconds else 0)


@pytest.mark.parametrize(("answer", "at"), [(NOW, 100), (SOON, 104)])
def test_a_body_starts_when_its_token_is_due(answer: Start, at: float) -> None:
    """One call, and no second one after the wait."""
    world = World(answer)
    assert (world.wait(), world.time, world.answers) == (Verdict.START, at, [])


def test_a_token_that_came_too_late_is_asked_for_again() -> None:
    """A node that stood still starts nothing with tokens of before: all of its bodies would start at once."""
    world = World(SOON, SOON)
    world.oversleeps_s = [0.2, 0.05]
    assert world.wait() is Verdict.START
    assert world.time == pytest.approx(108.25)


def test_an_answer_that_took_long_is_asked_for_again() -> None:
    """The node stood still before it read it: nobody knows how old it is."""
    world = World(NOW, NOW)
    world.answers_in_s = 5.0
    quick: Callable[[str, str], Start] = world.start

    def start(labourer_id: str, holder: str) -> Start:
        answer = quick(labourer_id, holder)
        world.answers_in_s = 0.0
        return answer

    world.start = start  # type: ignore[method-assign]
    assert (world.wait(), world.time, world.answers) == (Verdict.START, 105, [])


@pytest.mark.parametrize("before", [[], [Start(False, 3)], [StoreUnavailable("redis", "start", "TimeoutError")]])
def test_the_loss_of_the_slot_ends_the_wait(before: list[Any]) -> None:
    """Whenever it is told."""
    world = World(*before, LOST)
    assert (world.wait(), world.answers) == (Verdict.LOST, [])


def test_who_has_no_token_in_sight_asks_again() -> None:
    """After the time that it was told, and after a moment where Redis does not answer."""
    world = World(Start(False, 3), StoreUnavailable("redis", "start", "TimeoutError"), NOW)
    assert (world.wait(), world.time) == (Verdict.START, 103.5)


def test_a_node_that_stops_waits_no_longer_than_for_a_token_in_sight() -> None:
    """What has a token runs; what has none is left within half a second."""
    world = World(Start(False, 300))
    world.stops_at = 110
    assert world.wait() is Verdict.STOPPED
    assert 110 <= world.time <= 110.5
    world = World(SOON)
    world.stops_at = 0
    assert world.wait() is Verdict.START
