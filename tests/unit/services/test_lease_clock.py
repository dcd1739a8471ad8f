"""The time for leases, by two clocks of which either may be wrong or away."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from sosw_celery.errors import StoreUnavailable
from sosw_celery.services.lease_clock import ASKED_EVERY_S, LeaseClock

NOW = Decimal(1_795_392_000)


@dataclass
class Clocks:
    """A node's clock, the one that all share, and the steady one."""

    own: Decimal = NOW
    shared: Decimal | None = NOW
    steady: float = 50.0
    asked: list[float] = field(default_factory=list)

    def ask(self) -> Decimal:
        """Return the shared time, if it answers."""
        self.asked.append(self.steady)
        if self.shared is None:
            raise StoreUnavailable("redis", "TIME")
        return self.shared

    def lease_clock(self) -> LeaseClock:
        """Return what tells the time for leases."""
        return LeaseClock(lambda: self.own, self.ask, steady=lambda: self.steady)


@pytest.mark.parametrize("own", [NOW - 60, NOW, NOW + 60])
@pytest.mark.parametrize("shared", [NOW - 60, NOW, NOW + 60])
def test_a_lease_begins_by_the_later_clock_and_ends_by_the_earlier(own: Decimal, shared: Decimal) -> None:
    """So no clock that is wrong alone ends a lease before its time."""
    clock = Clocks(own, shared).lease_clock()
    assert clock.latest() == max(own, shared)
    assert clock.earliest() == min(own, shared)


def test_the_shared_time_goes_on_between_answers() -> None:
    """It is asked for every few seconds, and goes on by the steady clock in between, whatever the node's own does."""
    clocks = Clocks()
    clock = clocks.lease_clock()
    clock.earliest()
    clocks.steady += ASKED_EVERY_S - 1
    clocks.own = NOW + 1000
    assert clock.earliest() == NOW + Decimal(ASKED_EVERY_S - 1)
    assert clocks.asked == [50.0]
    clocks.shared = NOW + 5
    clocks.steady += 1
    assert clock.earliest() == NOW + 5
    assert clocks.asked == [50.0, 50.0 + ASKED_EVERY_S]


def test_a_shared_clock_that_is_away_goes_on_as_it_was() -> None:
    """While it does not answer its last answer counts on, and it is asked no more often than before."""
    clocks = Clocks()
    clock = clocks.lease_clock()
    clock.earliest()
    clocks.shared, clocks.own = None, NOW - 1000
    for _ in range(20):
        clocks.steady += 1
        assert clock.latest() == NOW + Decimal(repr(clocks.steady - 50))
    assert len(clocks.asked) == 5


def test_who_never_heard_the_shared_clock_takes_nothing_over() -> None:
    """Without any answer leases begin by the node's clock, and of none it is known that it has ended."""
    clock = Clocks(shared=None).lease_clock()
    assert clock.latest() == NOW
    assert clock.earliest() is None


def test_a_single_node_has_its_own_clock() -> None:
    """Where no clock is shared, that of the node is all there is."""
    clock = LeaseClock(lambda: NOW)
    assert clock.latest() == clock.earliest() == NOW
