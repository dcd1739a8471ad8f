"""The watchdog of a pool process: it ends the process when the node's main process stopped renewing leases.

The main process renews in one place for all (`node/lease_keeper.py`), and notes it in memory that its children inherit.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from sosw_celery.clock import steady
from sosw_celery.config.settings import PATIENCE
from sosw_celery.labourer import children
from sosw_celery.labourer.pool_memory import Stage, here, shared_numbers

__all__ = ["Watchdog", "watchdog"]

logger = logging.getLogger(__name__)

#: Seconds between two looks of the watchdog: how long an attempt may run on after its node was frozen.
WATCH_S = 0.2


class Watchdog:
    """Ends this pool process when the leases of the node were not renewed in time.

    One per process, shared memory with the main one; does nothing where there is no main process that renews.
    """

    def __init__(self) -> None:
        # Written by the main process, read by its children: they inherit the memory by the fork.
        self._renewed_at, self._lease_s, self._main_pid, self._stops = shared_numbers(4)
        #: When `renewed` was called last in this process, monotonic: a suspended node is not silent.
        self.noted_at = 0.0
        self._awake_in_pid = 0

    def renewed(self, at: float, lease_s: float) -> None:
        """Note that all leases of the node are good from `at` (steady) for `lease_s`."""
        self._main_pid.value = os.getpid()
        self._lease_s.value = lease_s
        self._renewed_at.value = at
        self.noted_at = time.monotonic()

    @property
    def renewed_at(self) -> float:
        """The steady time from which the leases of the node are good; 0 before the first renewal."""
        return float(self._renewed_at.value)

    def stop(self) -> None:
        """Note that the node is about to end: what runs may finish."""
        self._stops.value = 1

    @property
    def is_stopping(self) -> bool:
        """Whether the node is about to end."""
        return bool(self._stops.value)

    @property
    def is_in_pool_process(self) -> bool:
        """Whether this is a process of a pool whose main process renews leases."""
        return self.renewed_at != 0 and self._main_pid.value != os.getpid()

    def wake(self) -> None:
        """Have this process watched from now on, if it is one of a pool: it ends when it may have lost its slot."""
        # Without a place it may be a thread of several: ending the process would end the others too.
        if self._awake_in_pid != os.getpid() and self.is_in_pool_process and here.has_place:
            self._awake_in_pid = os.getpid()
            children.take_soft_limits()
            threading.Thread(target=self._look, name="sosw-watchdog", daemon=True).start()

    def is_over(self, stage: Stage, slot_from: float, now: float) -> bool:
        """Return whether an attempt may have lost its slot at `now` (steady), and would run on without it."""
        good_from = max(slot_from, self.renewed_at)
        return stage.needs_lease and now - good_from > float(self._lease_s.value) * PATIENCE

    def bites(self) -> bool:
        """Return whether this pool process has to end now."""
        return self.is_over(here.stage, here.slot_from, steady())

    def _look(self) -> None:
        while not self.bites():
            time.sleep(WATCH_S)
        logger.error("attempt ended: its node did not renew its lease")
        children.kill(os.getpid())


watchdog = Watchdog()
