"""Keeps the leases of a node's running attempts, and ends attempts whose lease is gone.

A thread of the worker's main process renews all of a node's leases in one call (hub timers stop during a soft shutdown,
a thread does not). Two guards end an attempt that may no longer hold its slot: the renewal that learns so kills the
child, and a watchdog in each child ends it when its main process has not renewed for too long (frozen, cut off from
Redis). One whose node stood still after it asked for its lease does not begin: `Attempts.begin` sees to that up to the
claim, `Worker.before_start` up to the first line of the body. With the threads pool there is no child to kill: the
close of such an attempt is refused all the same.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from celery import bootsteps
from celery.worker import state

from sosw_celery.board import board
from sosw_celery.clock import steady
from sosw_celery.core.model import Attempt, Hint
from sosw_celery.errors import StoreError
from sosw_celery.settings import PATIENCE
from sosw_celery.wiring import services_of

__all__ = ["LeaseKeeper", "PoolKeeper", "watchdog"]

logger = logging.getLogger(__name__)

DOUBLE_BYTES = ctypes.sizeof(ctypes.c_double)

#: Labourer and holder of a lease.
Key = tuple[str, str]

#: Seconds between two looks of the watchdog: how long an attempt may run on after its node was frozen.
WATCH_S = 0.2
#: Seconds between learning that a lease is gone and the kill, in which an attempt that just ended leaves the list.
SECOND_LOOK_S = 0.3
#: Seconds between two looks for dead children; Celery's own 5 s would idle their slots.
MAINTAIN_POOL_S = 0.25


class Watchdog:
    """Ends this pool process when the leases of the node were not renewed in time.

    One per process, shared memory with the main one; does nothing where there is no main process that renews.
    """

    def __init__(self) -> None:
        # Written by the main process, read by its children: they inherit the memory by the fork.
        shared = mmap.mmap(-1, 3 * DOUBLE_BYTES)
        self._renewed_at = ctypes.c_double.from_buffer(shared, 0)
        self._lease_s = ctypes.c_double.from_buffer(shared, DOUBLE_BYTES)
        self._main_pid = ctypes.c_double.from_buffer(shared, 2 * DOUBLE_BYTES)
        #: When `renewed` was called last in this process, monotonic: a suspended node is not silent.
        self.noted_at = 0.0
        self._watched: tuple[str, float] | None = None
        self._thread_of_pid = 0

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

    @property
    def is_in_pool_process(self) -> bool:
        """Whether this is a process of a pool whose main process renews leases."""
        return self.renewed_at != 0 and self._main_pid.value != os.getpid()

    def watch(self, holder: str, since: float) -> None:
        """Watch over the attempt that begins in this pool process.

        Parameters:
            since: Steady time before its lease was asked for.
        """
        if not self.is_in_pool_process:
            return  # nobody renews (a test, `solo`), or threads: ending the process would end the others too
        self._watched = (holder, since)
        if self._thread_of_pid != os.getpid():
            self._thread_of_pid = os.getpid()
            threading.Thread(target=self._look, name="sosw-watchdog", daemon=True).start()

    def unwatch(self) -> None:
        """Stop watching: the attempt has ended."""
        self._watched = None

    def overdue(self, now: float) -> bool:
        """Return whether the attempt under way may have lost its slot at `now` (steady)."""
        watched = self._watched
        if watched is None:
            return False
        good_from = max(watched[1], self.renewed_at)
        return now - good_from > float(self._lease_s.value) * PATIENCE

    def _look(self) -> None:
        while not self.overdue(steady()):
            time.sleep(WATCH_S)
        logger.error("attempt ended: its node did not renew its lease", extra={"holder": self._watched})
        os.kill(os.getpid(), signal.SIGKILL)


watchdog = Watchdog()


class LeaseKeeper(bootsteps.StartStopStep):
    """Worker bootstep: the thread that renews the leases of this node."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._app = parent.app
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._kept: set[Key] = set()
        self._seen_at: dict[Key, float] = {}
        self._looked_at = steady()
        self._uses_processes = True

    def create(self, worker: Any) -> Any:
        """Return the step itself as what is started and stopped."""
        # Before the pool forks, so that its first children find the shared values set.
        settings = services_of(self._app).settings
        watchdog.renewed(steady(), settings.lease_s)
        return self

    def start(self, worker: Any) -> None:
        """Start renewing."""
        self._uses_processes = hasattr(getattr(worker.pool, "_pool", None), "maintain_pool")
        self._thread = threading.Thread(target=self._keep, name="sosw-leases", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        """Keep on renewing while running tasks finish; the thread ends with the process."""

    def terminate(self, worker: Any) -> None:
        """Stop renewing."""
        self._stopped.set()

    def _keep(self) -> None:
        settings = services_of(self._app).settings
        while not self._stopped.wait(settings.renew_s):
            try:
                self._renew(settings.lease_s)
            except StoreError as problem:
                logger.warning("leases not renewed, trying again: %s", problem)
            except Exception:
                logger.exception("leases not renewed, trying again")

    def _renew(self, lease_s: float) -> None:
        started = steady()
        running = {(attempt.labourer_id, attempt.holder): request for attempt, request in _running()}
        self._seen_at = {key: self._seen_at.get(key, started) for key in running}
        stood_still = started - self._looked_at > PATIENCE * lease_s
        lost = self._lost(running, lease_s)
        self._looked_at = started
        if not (stood_still and lost):  # else the watchdogs of the children may be right
            watchdog.renewed(started, lease_s)
        # One that has not confirmed its lease yet is reported as lost too: only after a lease's time is it suspect, or
        # when a lease's time went by unnoticed.
        suspects = {key for key in lost if stood_still or key in self._kept or started - self._seen_at[key] > lease_s}
        self._kept = running.keys() - lost
        if suspects and not self._stopped.wait(SECOND_LOOK_S):
            self._end({key: request for key, request in running.items() if key in suspects}, lease_s)

    def _lost(self, running: Iterable[Key], lease_s: float) -> set[Key]:
        by_labourer: dict[str, list[str]] = {}
        for labourer_id, holder in running:
            by_labourer.setdefault(labourer_id, []).append(holder)
        return services_of(self._app).slots.renew(by_labourer, lease_s=lease_s)

    def _end(self, suspects: dict[Key, Any], lease_s: float) -> None:
        """Kill the children of attempts that still run without a lease."""
        still_running = {(attempt.labourer_id, attempt.holder) for attempt, _ in _running()}
        for key in suspects.keys() & still_running & self._lost(suspects, lease_s):
            logger.error("attempt ended: its lease is gone", extra={"holder": key[1]})
            pid = suspects[key].worker_pid
            if self._uses_processes and pid and pid != os.getpid():
                os.kill(pid, signal.SIGKILL)


class PoolKeeper(bootsteps.StartStopStep):
    """Worker bootstep: replaces dead children within a quarter of a second."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._entry: Any = None

    def start(self, worker: Any) -> None:
        """Look for dead children often, where the pool has children and the worker a timer."""
        maintain = getattr(getattr(worker.pool, "_pool", None), "maintain_pool", None)
        hub = getattr(worker, "hub", None)
        if maintain is not None and hub is not None:
            self._entry = hub.timer.call_repeatedly(MAINTAIN_POOL_S, maintain)

    def stop(self, worker: Any) -> None:
        """Stop looking."""
        if self._entry is not None:
            self._entry.cancel()


def _running() -> Iterator[tuple[Attempt, Any]]:
    """Yield the attempts that this node's pool has accepted and not finished, with their Celery requests."""
    later = board.attempts()
    for request in list(state.active_requests):
        hint = Hint.from_message(request.args[0]) if len(request.args) == 1 else None
        if hint is not None:
            yield later.get(request.id, hint.attempt), request
