"""Keeps the leases of a node's running attempts, and ends attempts whose lease is gone.

A thread of the worker's main process renews all of a node's leases in one call (hub timers stop during a soft shutdown,
a thread does not). Three guards end an attempt that may no longer hold its slot: the renewal that learns so twice kills
the child; so does the main process when it has not renewed for too long (`limits.py`: it was cut off from Redis); and a
watchdog in each child does when the main process is frozen. One whose node stood still after it asked for its lease
does not begin: `Attempts.begin` sees to that up to the claim, `Worker.before_start` up to the first line of the body.
With the threads pool there is no child to kill: the close of such an attempt is refused all the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from celery.worker import state

from sosw_celery.clock import steady
from sosw_celery.config.settings import PATIENCE
from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.errors import StoreError
from sosw_celery.labourer import children
from sosw_celery.labourer.pool_memory import Entry, Stage, board
from sosw_celery.labourer.watchdog import watchdog
from sosw_celery.node.step import NodeStep
from sosw_celery.wiring.container import services_of

__all__ = ["LeaseKeeper"]

logger = logging.getLogger(__name__)

#: Labourer and holder of a lease.
Key = tuple[str, str]

#: Seconds between learning that a lease is gone and asking again, in which an attempt that just ended has said so.
SECOND_LOOK_S = 0.3


@dataclass(frozen=True)
class _Running:
    """An attempt that this node has.

    Parameters:
        entry: What its process says; None with threads, and before its process says anything.
    """

    attempt: Attempt
    entry: Entry | None

    @property
    def key(self) -> Key:
        return self.attempt.labourer_id, self.attempt.holder


class LeaseKeeper(NodeStep):
    """Worker bootstep: the thread that renews the leases of this node."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._app = parent.app
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        #: Those that run and whose lease was gone when it was to be renewed.
        self._missed: set[Key] = set()
        #: Those whose lease was renewed, of which no process says anything: of threads.
        self._held: set[Key] = set()
        self._looked_at = steady()

    def create(self, worker: Any) -> Any:
        """Return the step itself as what is started and stopped."""
        # Before the pool forks, so that its first children find the shared values set.
        settings = services_of(self._app).settings
        watchdog.renewed(steady(), settings.lease_s)
        return self

    def start(self, worker: Any) -> None:
        """Start renewing."""
        self._thread = threading.Thread(target=self._keep, name="sosw-leases", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        """Keep on renewing while running tasks finish; the thread ends with the process."""
        watchdog.stop()

    def terminate(self, worker: Any) -> None:
        """Stop renewing."""
        self._stopped.set()

    def _keep(self) -> None:
        settings = services_of(self._app).settings
        while not self._stopped.wait(SECOND_LOOK_S if self._missed else settings.renew_s):
            try:
                self._renew(settings.lease_s)
            except StoreError as problem:
                logger.warning("leases not renewed, trying again: %s", problem)
            except Exception:
                logger.exception("leases not renewed, trying again")

    def _renew(self, lease_s: float) -> None:
        """Renew all leases; end the attempts whose lease was gone the last time as well.

        Once is no proof: one that ends frees its slot before its process says so.
        """
        started = steady()
        running = {one.key: one for one in _running()}
        stood_still = started - self._looked_at > PATIENCE * lease_s
        lost = self._lost(running)
        self._looked_at = started
        if not (stood_still and lost):  # else who bites may be right
            watchdog.renewed(started, lease_s)
        entries = {key: running[key].entry for key in lost}
        missed = {key for key, entry in entries.items() if entry is not None and entry.stage.needs_lease}
        for key in missed & self._missed:
            entry = entries[key]
            if entry is not None:
                children.end(entry, "Lost: the lease of the attempt was gone while it ran")
        self._missed = missed
        for key in lost & self._held:
            logger.error("lease gone of an attempt that cannot be ended", extra={"holder": key[1]})
        self._held = {key for key, one in running.items() if one.entry is None} - lost

    def _lost(self, running: Iterable[Key]) -> set[Key]:
        by_labourer: dict[str, list[str]] = {}
        for labourer_id, holder in running:
            by_labourer.setdefault(labourer_id, []).append(holder)
        services = services_of(self._app)
        return services.slots.renew(by_labourer, lease_s=services.settings.lease_s)


def _running() -> Iterator[_Running]:
    """Yield the attempts that this node has and that have not ended.

    What its processes say counts, also of a message of which Celery's main process has not heard yet (it hears nothing
    while it looks for a lost broker). What a dead one said last counts until Celery has told that it died, and the
    attempt is failed: nobody gets the slot before.
    """
    requests = {request.id: request for request in list(state.active_requests)}
    for entry in board.entries():
        request = requests.pop(entry.message_id, None)
        if entry.stage is not Stage.DONE and (request is not None or children.is_alive(entry.pid)):
            yield _Running(entry.attempt, entry)
    for request in requests.values():
        hint = Hint.from_message(request.args[0]) if len(request.args) == 1 else None
        if hint is not None:
            yield _Running(hint.attempt, None)
