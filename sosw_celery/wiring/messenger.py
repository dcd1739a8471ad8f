"""Sends everything that the system sends: the one door to the broker, for `services.ports.Messenger`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sosw_celery import clock
from sosw_celery.core.tasks.history import Action, Observer
from sosw_celery.core.tasks.model import Hint
from sosw_celery.names import DISPATCH, QUEUES, SCHEDULER, SWEEP, WORKER_ASSISTANT
from sosw_celery.stores.redis.slots import Slots
from sosw_celery.wiring.broker import messages_on

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["MESSAGE_EXPIRES_S", "CeleryMessenger"]

#: Messages of one network call when hints are published.
HINTS_PER_CALL = 200
#: Seconds until a message that asks for a pass or a sweep is dropped: beat sends another long before. Far more than
#: clocks may differ, because the receiver compares the time with its own.
MESSAGE_EXPIRES_S = 900


class CeleryMessenger:
    """Sends messages through a Celery app.

    Parameters:
        slots: Knows whether a dispatch is under way; asked for when it is first needed.
        observe: Told of the attempts whose hints were published.
    """

    def __init__(self, app: Celery, slots: Callable[[], Slots], *, observe: Observer) -> None:
        self._app = app
        self._slots = slots
        self._observe = observe

    def publish_hints(self, hints: Sequence[Hint]) -> None:
        """Put hints on the queues of their labourers."""
        at = clock.now()
        with self._app.producer_or_acquire() as producer, producer.batch(max_size=HINTS_PER_CALL):
            for hint in hints:
                attempt = hint.attempt
                self._app.send_task(
                    attempt.labourer_id,
                    [hint.as_message()],
                    task_id=hint.celery_id,
                    queue=attempt.labourer_id,
                    ignore_result=True,
                    # Who has a task of this name itself, as a node of a pool without processes, would send its limits.
                    time_limit=None,
                    soft_time_limit=None,
                    argsrepr=attempt.holder,  # a hint's only argument; Celery would make a text of it with much care
                    producer=producer,
                )
        self._observe(Action.DISPATCHED, [hint.attempt for hint in hints], at)

    def request_dispatch(self, labourer_id: str, *, from_head: bool = False) -> None:
        """Ask an orchestrator for a pass over the labourer's queue."""
        self._request(DISPATCH, labourer_id, {"from_head": True} if from_head else {})

    def request_sweep(self, labourer_id: str, *, thorough: bool = False) -> None:
        """Ask a scavenger for a sweep of the labourer."""
        self._request(SWEEP, labourer_id, {"thorough": True} if thorough else {})

    def announce(self, labourer_id: str, lowest_greenfield: Decimal | None) -> None:
        """Note in Redis that rows were written, and ask for a dispatch unless one is on its way."""
        if self._slots().announce_work(labourer_id, lowest_greenfield):
            self.request_dispatch(labourer_id)

    def spawn_scheduler(self, envelope: Mapping[str, Any]) -> None:
        """Ask for one more Scheduler."""
        self._app.send_task(SCHEDULER, [dict(envelope)], queue=QUEUES[SCHEDULER], ignore_result=True)

    def hand_to_assistant(self, message: Mapping[str, Any]) -> None:
        """Have the WorkerAssistant do what a message asks."""
        self._app.send_task(WORKER_ASSISTANT, [dict(message)], queue=QUEUES[WORKER_ASSISTANT])

    def queue_depth(self, queue: str) -> int:
        """Return how many messages wait on a queue."""
        with self._app.connection_for_read() as connection:
            return messages_on(connection, queue)

    def _request(self, name: str, labourer_id: str, options: Mapping[str, Any]) -> None:
        self._app.send_task(
            name,
            [labourer_id],
            kwargs=dict(options),
            queue=QUEUES[name],
            ignore_result=True,
            expires=MESSAGE_EXPIRES_S,
        )
