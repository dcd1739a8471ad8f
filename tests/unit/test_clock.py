"""The clock by which leases are judged."""

from __future__ import annotations

import time

import pytest

from sosw_celery import clock
from sosw_celery.clock import steady
from sosw_celery.labourer.pool_memory import Stage
from sosw_celery.labourer.watchdog import Watchdog

SLEPT_S = 3600.0


@pytest.fixture
def suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine was suspended for an hour: CLOCK_MONOTONIC stood still, and only CLOCK_BOOTTIME went on."""
    gettime = time.clock_gettime
    monkeypatch.setattr(
        clock.time, "clock_gettime", lambda which: gettime(which) + SLEPT_S * (which == time.CLOCK_BOOTTIME)
    )


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="CLOCK_MONOTONIC goes on in a suspend here")
def test_a_suspended_machine_gets_older(request: pytest.FixtureRequest) -> None:
    """Nothing else than the steady clock tells of the time in which no clock of Python's went on."""
    before = steady(), time.monotonic()
    request.getfixturevalue("suspended")
    assert steady() - before[0] >= SLEPT_S
    assert time.monotonic() - before[1] < SLEPT_S


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="CLOCK_MONOTONIC goes on in a suspend here")
def test_a_lease_ends_in_a_suspend(request: pytest.FixtureRequest) -> None:
    """Who wakes knows at once that its slot may be another's."""
    watchdog, asked_at = Watchdog(), steady()
    watchdog.renewed(asked_at, 20.0)
    assert not watchdog.is_over(Stage.RUNNING, asked_at, steady())
    request.getfixturevalue("suspended")
    assert watchdog.is_over(Stage.RUNNING, asked_at, steady())
