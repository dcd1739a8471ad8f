"""What ends attempts whose lease is gone."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from sosw_celery import leases
from sosw_celery.clock import steady
from sosw_celery.core.model import Attempt
from sosw_celery.leases import LeaseKeeper, Watchdog

LEASE_S = 20.0
KEY = ("note", "task/1")


@pytest.fixture
def in_a_child(monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    """A watchdog as a pool process has it, whose main process renewed long ago; it bites nobody."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    watchdog = Watchdog()
    watchdog.renewed(steady() - 100, LEASE_S)
    watchdog._main_pid.value = 1
    return watchdog


@pytest.mark.parametrize(("age_s", "overdue"), [(0, False), (15, False), (17, True)])
def test_a_lease_counts_from_when_it_was_asked_for(in_a_child: Watchdog, age_s: float, overdue: bool) -> None:
    """A process that stood still since then does not take it for a new one."""
    now = steady()
    in_a_child.watch("task/1", now - age_s)
    assert in_a_child.overdue(now) is overdue


class Keeper(LeaseKeeper):
    """Renews for one attempt whose lease is gone, and notes whom it ends."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(app=None))
        self.ended: list[leases.Key] = []

    def _lost(self, running: Any, lease_s: float) -> set[leases.Key]:
        return {KEY}

    def _end(self, suspects: dict[leases.Key, Any], lease_s: float) -> None:
        self.ended += suspects


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """A keeper that does not wait for its second look."""
    monkeypatch.setattr(leases, "_running", lambda: iter([(Attempt("note", "task", 1), None)]))
    monkeypatch.setattr(leases, "SECOND_LOOK_S", 0)
    return Keeper()


def test_an_attempt_that_may_not_have_its_lease_yet_is_left_alone(keeper: Keeper) -> None:
    """It was accepted a moment ago: until it asks for its lease Redis does not know it."""
    keeper._renew(LEASE_S)
    assert keeper.ended == []


def test_after_a_stand_still_no_attempt_is_excused(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had no lease when the node went on has lost it; and no child is told that all is well."""
    told: list[float] = []
    monkeypatch.setattr(leases.watchdog, "renewed", lambda at, lease_s: told.append(at))
    keeper._looked_at -= LEASE_S
    keeper._renew(LEASE_S)
    assert (keeper.ended, told) == ([KEY], [])
    keeper._renew(LEASE_S)
    assert len(told) == 1
