"""How the end of an attempt comes to the assistant."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from sosw_celery import closing
from sosw_celery.core.model import Attempt
from sosw_celery.services.attempts import Outcome
from sosw_celery.stores.items import attributes_of_text

ATTEMPT = Attempt("resize", "task-1", 1)


class Broker:
    """Takes messages, unless one of these errors comes first or the message is too large."""

    def __init__(self, errors: list[Exception], most_bytes: int = 10**9) -> None:
        self.errors = errors
        self.most_bytes = most_bytes
        self.sent: list[Any] = []
        self.held = 0

    def hand_over(self, message: Any) -> None:
        """Take a message."""
        if self.errors:
            raise self.errors.pop(0)
        if len(message["outcome"]) > self.most_bytes:
            raise ValueError("one or more parameters are invalid")
        self.sent.append(message)

    def fail(self) -> None:
        """End the attempt through this broker."""
        entry = SimpleNamespace(through_assistant=True)
        services: Any = SimpleNamespace(
            settings=SimpleNamespace(labourer=lambda labourer_id: entry),
            assisted=SimpleNamespace(hold=self.hold),
            hand_over=self.hand_over,
        )
        closing.fail(services, ATTEMPT, ValueError("broken"), Outcome({"n": 1}, {"text": "x" * 1000}), None)

    def hold(self, attempt: Attempt, *, lease_s: float) -> None:
        """Note that the slot is held."""
        self.held += 1


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr(closing.time, "sleep", slept.append)
    return slept


def test_a_broker_that_is_away_is_waited_for(waits: list[float]) -> None:
    """The message is sent as it is when it is back, and the slot is held anew before each try."""
    broker = Broker([OperationalError("away"), OperationalError("away")])
    broker.fail()
    (message,) = broker.sent
    assert attributes_of_text(message["outcome"]) == {"stat_n": 1, "result_text": "x" * 1000}
    assert (waits, broker.held) == ([0.5, 1], 3)


def test_a_message_that_the_broker_refuses_is_sent_without_what_it_holds(waits: list[float]) -> None:
    """The attempt is ended at once, and its row says what was left out."""
    broker = Broker([], most_bytes=500)
    broker.fail()
    (message,) = broker.sent
    assert message["error"] == "ValueError: broken"
    assert attributes_of_text(message["outcome"]) == {
        "result_dropped": (
            "stats and results are left out: the broker refused the message: "
            "ValueError: one or more parameters are invalid"
        )
    }
    assert waits == []


def test_a_broker_that_stays_away_is_given_up(waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """After a minute: the task is found without its lease, and runs again."""
    broker = Broker([OperationalError("away")] * 99)
    broker.fail()
    assert sum(waits) > 60
    assert "not closed: the task will be run again" in caplog.text
