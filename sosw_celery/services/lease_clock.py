"""What time it is for leases on jobs and their parts, which any node may take over once they have ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal

from sosw_celery import clock
from sosw_celery.clock import Clock
from sosw_celery.core.exact import EXACT
from sosw_celery.errors import StoreError

__all__ = ["LeaseClock"]

logger = logging.getLogger(__name__)

#: Seconds for which an answer of the shared clock is relied on, or none is asked for again.
ASKED_EVERY_S = 5.0


class LeaseClock:
    """Tells the time by two clocks: this node's own, and the one that all nodes share.

    A lease begins by the later one and has ended by the earlier one. So one clock that is wrong makes somebody wait,
    and gives nothing away that is held. Between its answers, and while it gives none, the shared clock goes on by the
    steady clock of this node. A node that never had an answer takes nothing over: while there is no Redis no task
    starts, so rows may wait as well.

    Parameters:
        own: The clock of this node.
        shared: The clock of all nodes, asked every few seconds; raises StoreError. None: there is only one node.
    """

    def __init__(self, own: Clock, shared: Clock | None = None, *, steady: Callable[[], float] = clock.steady) -> None:
        self._own = own
        self._ask = shared
        self._steady = steady
        self._asked_at: float | None = None
        self._answer: tuple[Decimal, float] | None = None

    def latest(self) -> Decimal:
        """Return the time at which a lease begins now."""
        own, shared = self._own(), self._shared()
        return own if shared is None else max(own, shared)

    def earliest(self) -> Decimal | None:
        """Return the time at or after which no lease has ended; None: nobody knows of any that it has."""
        own, shared = self._own(), self._shared()
        if shared is None:
            return own if self._ask is None else None
        return min(own, shared)

    def _shared(self) -> Decimal | None:
        if self._ask is None:
            return None
        now = self._steady()
        if self._asked_at is None or now - self._asked_at >= ASKED_EVERY_S:
            self._asked_at = now  # other threads do not wait for the answer
            try:
                self._answer = (self._ask(), now)
            except StoreError as problem:
                logger.warning("leases go by the last answer of the shared clock: %s", problem)
                self._asked_at = self._steady()  # it may have taken long to learn that
        if self._answer is None:
            return None
        answer, at = self._answer
        return EXACT.add(answer, Decimal(repr(self._steady() - at)))
