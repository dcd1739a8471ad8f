"""What is sent to the broker, on kombu's broker in memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import fakeredis
import pytest
from celery import Celery

from sosw_celery.core.tasks.history import Action
from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.names import DISPATCH, QUEUES, SCHEDULER, SWEEP, WORKER_ASSISTANT
from sosw_celery.services.ports import Messenger
from sosw_celery.stores.redis.slots import Limits, Slots
from sosw_celery.wiring.messenger import MESSAGE_EXPIRES_S, CeleryMessenger
from tests.harness.messenger import FakeMessenger

HINT = Hint(Attempt("limited", "task", 3))


class Broker:
    """A messenger, and what it has sent."""

    def __init__(self) -> None:
        self.app = Celery("messages", broker="memory://", set_as_current=False)
        self.slots = Slots(fakeredis.FakeRedis())
        self.seen: list[Any] = []
        self.messenger = CeleryMessenger(self.app, lambda: self.slots, observe=lambda *what: self.seen.append(what))

    def taken(self, queue: str) -> list[tuple[dict[str, Any], list[Any], dict[str, Any]]]:
        """Take the messages of a queue: headers, arguments and keyword arguments of each."""
        messages = []
        with self.app.connection_for_read() as connection, connection.SimpleQueue(queue) as simple:
            while len(simple):
                message = simple.get_nowait()
                args, kwargs, _ = message.payload
                messages.append((message.headers, args, kwargs))
                message.ack()
        return messages


@pytest.fixture
def broker() -> Iterator[Broker]:
    """An empty broker: the one in memory belongs to the process."""
    made = Broker()
    for queue in (*QUEUES.values(), "limited"):
        made.taken(queue)
    yield made
    made.app.close()


def test_a_hint_carries_no_time_limit(broker: Broker) -> None:
    """Celery would count it from the message, and free the slot while the process still dies.

    Also when it comes from a node whose own tasks have limits, as with the threads pool: Celery takes those it knows.
    """

    @broker.app.task(name="limited", time_limit=60, soft_time_limit=50)
    def limited(event: object) -> None: ...

    broker.app.finalize()
    broker.messenger.publish_hints([HINT])
    ((headers, args, _),) = broker.taken("limited")
    assert (headers["id"], headers["timelimit"], headers["argsrepr"]) == ("task.3", [None, None], "task/3")
    assert Hint.from_message(args[0]) == HINT
    ((action, attempts, _),) = broker.seen
    assert (action, attempts) == (Action.DISPATCHED, [HINT.attempt])


@pytest.mark.parametrize(
    ("send", "name", "args", "kwargs"),
    [
        (lambda to: to.request_dispatch("resize"), DISPATCH, ["resize"], {}),
        (lambda to: to.request_dispatch("resize", from_head=True), DISPATCH, ["resize"], {"from_head": True}),
        (lambda to: to.request_sweep("resize"), SWEEP, ["resize"], {}),
        (lambda to: to.request_sweep("resize", thorough=True), SWEEP, ["resize"], {"thorough": True}),
    ],
)
def test_requests_expire(
    broker: Broker, send: Callable[[Messenger], None], name: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """Beat sends another one long before; a queue that nobody reads does not grow for ever."""
    send(broker.messenger)
    ((headers, *sent),) = broker.taken(QUEUES[name])
    assert (headers["task"], *sent) == (name, args, kwargs)
    assert headers["expires"] is not None
    assert MESSAGE_EXPIRES_S == 900


@pytest.mark.parametrize(
    ("send", "name"),
    [
        (lambda to: to.spawn_scheduler({"sosw": {"job_id": "j"}}), SCHEDULER),
        (lambda to: to.hand_to_assistant({"sosw": {"job_id": "j"}}), WORKER_ASSISTANT),
    ],
)
def test_what_is_to_be_done_does_not_expire(broker: Broker, send: Callable[[Messenger], None], name: str) -> None:
    """However long its queue is."""
    send(broker.messenger)
    ((headers, args, kwargs),) = broker.taken(QUEUES[name])
    assert (headers["task"], args, kwargs) == (name, [{"sosw": {"job_id": "j"}}], {})
    assert headers["expires"] is None


def test_new_rows_ask_for_one_dispatch(broker: Broker) -> None:
    """Those that come while it is on its way are found by it."""
    broker.slots.rebuild("resize", [], limits=Limits(1), lease_s=60, settle_s=0)
    for place in range(3):
        broker.messenger.announce("resize", Decimal(place))
    assert [args for _, args, _ in broker.taken(QUEUES[DISPATCH])] == [["resize"]]


def test_a_queue_without_messages_has_none(broker: Broker) -> None:
    """Redis keeps no empty queue, and kombu calls one that is not there an error."""
    assert broker.messenger.queue_depth("limited") == 0
    broker.messenger.publish_hints([HINT])
    assert broker.messenger.queue_depth("limited") == 1


def test_the_fake_has_every_message() -> None:
    """With the parameters of the real one, so that no test sends what cannot be sent."""
    for name, method in inspect.getmembers(Messenger, inspect.isfunction):
        if not name.startswith("_"):
            wanted = inspect.signature(method)
            assert inspect.signature(getattr(CeleryMessenger, name)) == wanted, name
            assert inspect.signature(getattr(FakeMessenger, name)) == wanted, name
