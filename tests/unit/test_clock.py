"""The clock by which leases are judged."""

from __future__ import annotations

import threading
import time

import pytest

from sosw_celery import clock, leases
from sosw_celery.leases import Watchdog

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
    before = clock.steady(), time.monotonic()
    request.getfixturevalue("suspended")
    assert clock.steady() - before[0] >= SLEPT_S
    assert time.monotonic() - before[1] < SLEPT_S


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="CLOCK_MONOTONIC goes on in a suspend here")
def test_a_lease_ends_in_a_suspend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wakes knows at once that its slot may be another's."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    watchdog = Watchdog()
    watchdog.renewed(leases.steady(), 20.0)
    watchdog._main_pid.value = 1
    watchdog.watch("task/1", leases.steady())
    assert not watchdog.overdue(leases.steady())
    request.getfixturevalue("suspended")
    assert watchdog.overdue(leases.steady())
