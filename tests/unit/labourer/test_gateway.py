"""How attempts begin and end, in the tables and through the assistant."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from sosw_celery.core.tasks.model import Attempt, Hint, Task
from sosw_celery.core.tasks.siblings import Sibling
from sosw_celery.errors import RetryLater, StoreError, StoreUnavailable
from sosw_celery.labourer import gateway
from sosw_celery.labourer.gateway import gateway_of
from sosw_celery.labourer.run_context import WorkerRun
from sosw_celery.services.attempts import Outcome
from sosw_celery.services.worker_assistant import COMPLETED, FAILED
from sosw_celery.stores.dynamodb.attributes import attributes_of_text

ATTEMPT = Attempt("resize", "task-1", 1)


class Broker:
    """Takes messages, unless one of these errors comes first or the message is too large."""

    def __init__(self, errors: list[Exception], most_bytes: int = 10**9) -> None:
        self.errors = errors
        self.most_bytes = most_bytes
        self.sent: list[Any] = []
        self.held = 0
        self.closes = 0

    def hand_to_assistant(self, message: Any) -> None:
        """Take a message."""
        if self.errors:
            raise self.errors.pop(0)
        if len(message["outcome"]) > self.most_bytes:
            raise ValueError("one or more parameters are invalid")
        self.sent.append(message)

    def services(self, refusal: Exception | None = None) -> Any:
        """What a close needs, where it has to go through this broker: by the configuration, or for that refusal."""
        entry = SimpleNamespace(through_assistant=refusal is None)

        def close(*_: Any, **__: Any) -> None:
            self.closes += 1
            assert refusal is not None
            raise refusal

        services = SimpleNamespace(
            settings=SimpleNamespace(labourer=lambda labourer_id: entry),
            assisted=SimpleNamespace(hold=self.hold),
            messenger=self,
        )
        if refusal is not None:  # else there is not even a client of the tables
            services.attempts = SimpleNamespace(fail=close, complete=close, go_on=close)
        return services

    def fail(self, refusal: Exception | None = None) -> None:
        """End the attempt through this broker."""
        outcome = Outcome({"n": 1}, {"text": "x" * 1000})
        way = gateway_of(self.services(refusal), ATTEMPT.labourer_id)
        way.fail(ATTEMPT, ValueError("broken"), outcome, None)

    def hold(self, attempt: Attempt, *, lease_s: float) -> None:
        """Note that the slot is held."""
        self.held += 1


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr(gateway.time, "sleep", slept.append)
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


@pytest.mark.parametrize(
    ("refusal", "closes"),
    [
        (None, 0),
        (StoreError("dynamodb", "UpdateItem", "AccessDeniedException"), 1),
        (StoreUnavailable("dynamodb", "UpdateItem", "ConnectTimeoutError"), 1),
        (RuntimeError("odd"), 1),
    ],
)
def test_what_the_tables_do_not_close_is_handed_over(
    waits: list[float], refusal: Exception | None, closes: int
) -> None:
    """Whatever they raise; where a labourer has no access to them they are not asked."""
    broker = Broker([])
    broker.fail(refusal)
    (message,) = broker.sent
    assert message["error"] == "ValueError: broken"
    assert attributes_of_text(message["outcome"]) == {"stat_n": 1, "result_text": "x" * 1000}
    assert (broker.closes, broker.held, waits) == (closes, 1, [])


def test_the_assistant_is_told_all_that_a_close_would_say() -> None:
    """The wait that the body asked for, its job, what it has spawned, and whether its body goes on."""
    broker = Broker([])
    way, outcome, sibling = gateway_of(broker.services(), "resize"), Outcome({}, {}), Sibling("s", "{}", 1)
    task = Task("task-1", "resize", Decimal(1), Decimal(1), job_id="j", attempts=1)
    run = WorkerRun(task, unspawned=[sibling])
    way.fail(ATTEMPT, RetryLater(5), outcome, run)
    way.complete(run, outcome)
    assert way.go_on(run, outcome, lambda attempt: None) is None
    way.complete_early(run, outcome)
    said = [(one["action"], one["delay_s"], one["keep_slot"]) for one in broker.sent]
    assert said == [(FAILED, 5, False), (COMPLETED, None, False), (COMPLETED, None, False), (COMPLETED, None, True)]
    for message in broker.sent:
        assert (message["task_id"], message["attempt"]) == ("task-1", 1)
        assert (message["job_id"], message["siblings"]) == ("j", [sibling.as_message()])


def test_an_early_close_keeps_the_slot_for_the_body_that_goes_on() -> None:
    """It is made in the tables where they can be reached; what they raise is the caller's."""
    told: list[Any] = []
    services = Broker([]).services(refusal=StoreError("dynamodb", "UpdateItem", "AccessDeniedException"))
    run = WorkerRun(Task("task-1", "resize", Decimal(1), Decimal(1), attempts=1))
    with pytest.raises(StoreError):
        gateway_of(services, "resize").complete_early(run, Outcome({}, {}))
    services.attempts.complete = lambda attempt, outcome, **options: told.append((attempt, options))
    gateway_of(services, "resize").complete_early(run, Outcome({}, {}))
    assert told == [(ATTEMPT, {"keep_slot": True})]


@pytest.mark.parametrize(
    ("through_assistant", "is_claimed", "by"),
    [(False, False, "attempts"), (False, True, "assisted"), (True, True, "assisted"), (True, False, "assisted")],
)
def test_a_hint_is_taken_up_by_who_can(through_assistant: bool, is_claimed: bool, by: str) -> None:
    """One whose task is claimed already needs its slot only, also where `close_through` has changed since."""
    task = Task("task-1", "resize", Decimal(1), Decimal(1), attempts=1)
    entry = SimpleNamespace(through_assistant=through_assistant)
    services: Any = SimpleNamespace(
        settings=SimpleNamespace(labourer=lambda labourer_id: entry),
        attempts=SimpleNamespace(begin=lambda hint: "attempts"),
        assisted=SimpleNamespace(begin=lambda hint: "assisted"),
    )
    assert gateway_of(services, "resize").begin(Hint(ATTEMPT, task if is_claimed else None)) == by


def test_who_cannot_reach_the_tables_leaves_them_alone() -> None:
    """Siblings wait for the end of the attempt, which fails where its payload cannot be read; no line goes on."""
    run = WorkerRun(Task("task-1", "resize", Decimal(1), Decimal(1), job_id="j", attempts=1))
    way, sibling = gateway_of(Broker([]).services(), "resize"), Sibling("s", "{}", 1)
    way.spawn(run, sibling)
    assert (run.unspawned, way.bury(run, "broken"), way.goes_on) == ([sibling], False, False)


def test_who_reaches_the_tables_writes_at_once() -> None:
    """A sibling's row, and the end of a task that cannot run."""
    written: list[Any] = []
    services = Broker([]).services(refusal=StoreError("dynamodb", "UpdateItem", "AccessDeniedException"))
    services.siblings = SimpleNamespace(spawn=lambda *what: written.append(what))
    services.attempts.bury = lambda *what: written.append(what)
    run = WorkerRun(Task("task-1", "resize", Decimal(1), Decimal(1), job_id="j", attempts=1))
    way, sibling = gateway_of(services, "resize"), Sibling("s", "{}", 1)
    way.spawn(run, sibling)
    assert (way.bury(run, "broken"), way.goes_on) == (True, True)
    assert written == [(ATTEMPT, "j", sibling), (ATTEMPT, "broken")]
    assert run.unspawned == []
