"""A messenger without a broker, for tests of what services send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sosw_celery.core.tasks.model import Hint

__all__ = ["FakeMessenger"]


class FakeMessenger:
    """Keeps what it is given, in the order in which it came; nothing arrives anywhere.

    Whoever is to carry a message out takes it from its list.
    """

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        #: Labourers for which a pass is asked for; from where the last one stopped, and from the head of the queue.
        self.dispatches: list[str] = []
        self.passes: list[str] = []
        #: Labourers that are to be swept, and whether thoroughly.
        self.sweeps: list[tuple[str, bool]] = []
        #: Labourers with new rows, and the lowest place of these.
        self.announced: list[tuple[str, Decimal | None]] = []
        #: Envelopes for Schedulers, and messages for the assistant.
        self.envelopes: list[Mapping[str, Any]] = []
        self.handed_over: list[Mapping[str, Any]] = []
        #: Messages that wait on every queue.
        self.depth = 0
        #: What the broker raises: then nothing is kept.
        self.error: Exception | None = None

    def publish_hints(self, hints: Sequence[Hint]) -> None:
        """Keep hints."""
        self._connect()
        self.hints.extend(hints)

    def request_dispatch(self, labourer_id: str, *, from_head: bool = False) -> None:
        """Keep the request for a pass."""
        self._connect()
        (self.passes if from_head else self.dispatches).append(labourer_id)

    def request_sweep(self, labourer_id: str, *, thorough: bool = False) -> None:
        """Keep the request for a sweep."""
        self._connect()
        self.sweeps.append((labourer_id, thorough))

    def announce(self, labourer_id: str, lowest_greenfield: Decimal | None) -> None:
        """Keep the announcement."""
        self._connect()
        self.announced.append((labourer_id, lowest_greenfield))

    def spawn_scheduler(self, envelope: Mapping[str, Any]) -> None:
        """Keep the envelope."""
        self._connect()
        self.envelopes.append(envelope)

    def hand_to_assistant(self, message: Mapping[str, Any]) -> None:
        """Keep the message."""
        self._connect()
        self.handed_over.append(message)

    def queue_depth(self, queue: str) -> int:
        """Return `depth`."""
        self._connect()
        return self.depth

    def _connect(self) -> None:
        if self.error is not None:
            raise self.error
