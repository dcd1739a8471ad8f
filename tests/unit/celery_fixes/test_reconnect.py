"""Workers that lose their broker."""

from __future__ import annotations

import pytest
from kombu.asynchronous import Hub

from sosw_celery.celery_fixes.reconnect import forgive


def fail() -> None:
    """Do what an acknowledgement on a lost connection does."""
    raise AttributeError("'NoneType' object has no attribute 'hostname'")


def test_a_call_that_fails_while_the_loop_closes_ends_nothing() -> None:
    """The others are made all the same, and the loop can be used again, as after each lost connection."""
    hub, made = Hub(), list[str]()
    hub.on_close.add(forgive)
    for name in ("first", "second"):
        hub.call_soon(made.append, f"before {name}")
        hub.call_soon(fail)
        hub.call_soon(made.append, f"after {name}")
        hub.reset()
        assert sorted(made) == [f"after {name}", f"before {name}"]
        made.clear()
    hub.close()


def test_without_it_the_failure_ends_the_worker() -> None:
    """Still so in the kombu that is installed; when this fails, the module has done its time."""
    hub = Hub()
    hub.call_soon(fail)
    with pytest.raises(AttributeError):
        hub.close()
