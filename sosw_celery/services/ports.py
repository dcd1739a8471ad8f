"""What services need of the world around them, beside their stores: one name for each of them.

    Messenger    everything that is sent to the broker, and how much waits there
    Observer     is told what happened to tasks; it stands in `core.tasks.history`, because stores tell it as well
    Clock        the time; it stands in `sosw_celery.clock`, as the ground of all

`wiring` brings the real ones, tests their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from sosw_celery.clock import Clock
from sosw_celery.core.tasks.history import Observer
from sosw_celery.core.tasks.model import Hint

__all__ = ["Clock", "Messenger", "Observer"]


class Messenger(Protocol):
    """Sends messages. Each call raises what the broker's client raises when the broker refuses or is away.

    No message is the truth of anything: whatever is lost here, beat asks for again.
    """

    def publish_hints(self, hints: Sequence[Hint]) -> None:
        """Put hints on the queues of their labourers. After an error some may be there."""

    def request_dispatch(self, labourer_id: str, *, from_head: bool = False) -> None:
        """Ask an orchestrator for a pass over the labourer's queue.

        Parameters:
            from_head: From the head of the queue, not from where the last pass stopped.
        """

    def request_sweep(self, labourer_id: str, *, thorough: bool = False) -> None:
        """Ask a scavenger for a sweep of the labourer.

        Parameters:
            thorough: Of all its rows, whatever is known to have happened.
        """

    def announce(self, labourer_id: str, lowest_greenfield: Decimal | None) -> None:
        """Say that rows of the labourer were written; asks for a dispatch, unless one is on its way.

        Parameters:
            lowest_greenfield: The lowest place of them in the queue; None where that is not known.
        """

    def spawn_scheduler(self, envelope: Mapping[str, Any]) -> None:
        """Ask for one more Scheduler.

        Parameters:
            envelope: The argument of the Celery task `scheduler`: see `core.jobs.plan.Envelope`.
        """

    def hand_to_assistant(self, message: Mapping[str, Any]) -> None:
        """Have the WorkerAssistant do what a message asks: see `services.worker_assistant.closing_message`."""

    def queue_depth(self, queue: str) -> int:
        """Return how many messages wait on a queue."""
