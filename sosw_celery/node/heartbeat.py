"""A worker node's own notes of its work, for `sosw-celery health`: a file on its machine, and a key in Redis.

Two threads of the worker's main process. One writes the file and asks nobody, so only a frozen or dead process falls
silent. The other one asks the broker how many messages wait, through a connection of its own: the consumer's may be the
very one that is dead. Neither reads a table.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from celery.signals import worker_shutdown
from celery.worker import state

from sosw_celery.core.node_liveness import Pulse, judge, noticed_waiting
from sosw_celery.errors import StoreError
from sosw_celery.labourer.troubles import troubles
from sosw_celery.labourer.watchdog import watchdog
from sosw_celery.node.step import NodeStep
from sosw_celery.stores.files.heartbeat_files import PulseFiles
from sosw_celery.stores.redis.node_registry import NodeRegistry
from sosw_celery.wiring.broker import messages_on
from sosw_celery.wiring.container import services_of

__all__ = ["Heartbeat"]

logger = logging.getLogger(__name__)

#: Seconds that the broker has for an answer.
BROKER_TIMEOUT_S = 5.0
#: Seconds of silence that count, in what a node thinks of itself.
LIMIT_S = 60.0


class Heartbeat(NodeStep):
    """Worker bootstep: notes that the node's event loop turns, and that no message waits while it is idle."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._app = parent.app
        self._ended = threading.Event()
        self._files = PulseFiles()
        self._is_written = True
        self._entry: Any = None
        self._turn_is_asked_for = False
        self._turned_at = self._started_at = time.monotonic()
        self._accepted_before = 0
        self._broker_since: float | None = None
        self._redis_since: float | None = None
        self._waiting_since: Mapping[str, float] = {}
        #: Those that the node was started for: one that was taken from it meanwhile is what a probe has to notice.
        self._queues: tuple[str, ...] = ()

    def create(self, worker: Any) -> Any:
        """Return the step itself as what is started and stopped."""
        return self

    def start(self, worker: Any) -> None:
        """Start both threads."""
        settings = services_of(self._app).settings
        self._queues = tuple(self._app.amqp.queues.consume_from)
        hub = getattr(worker, "hub", None)
        if hub is not None:
            self._entry = hub.timer.call_repeatedly(settings.heartbeat_s, self._note_turn)
        self._files.clear_dead()
        worker_shutdown.connect(self._forget, weak=False)
        for work in (self._keep_written, self._keep_looking):
            name = f"sosw-heartbeat-{work.__name__.rpartition('_')[2]}"
            threading.Thread(target=work, args=(worker, settings.heartbeat_s), name=name, daemon=True).start()

    def stop(self, worker: Any) -> None:
        """Keep on while running tasks finish; the threads end with the process."""

    def terminate(self, worker: Any) -> None:
        """Stop the threads."""
        self._ended.set()

    # ---- the file

    def _keep_written(self, worker: Any, every_s: float) -> None:
        while True:
            self._write(self._pulse(worker))
            if self._ended.wait(every_s):
                return

    def _write(self, pulse: Pulse) -> None:
        try:
            self._files.put(pulse)
            self._is_written = True
        except OSError as problem:
            if self._is_written:  # told once: it will be so the next time as well
                logger.warning("pulse not written, `sosw-celery health` will take this node for dead: %s", problem)
            self._is_written = False

    def _pulse(self, worker: Any) -> Pulse:
        now = time.monotonic()
        busy = len(state.active_requests)
        if busy and _runs_tasks_in_its_loop(worker):
            self._turned_at = now
        return Pulse(
            node=worker.hostname,
            pid=os.getpid(),
            queues=self._queues,
            capacity=_capacity(worker),
            busy=busy,
            accepted=state.all_total_count[0],
            written_at=now,
            turned_at=self._turned_at,
            renewed_at=max(self._started_at, watchdog.noted_at),
            lease_s=services_of(self._app).settings.lease_s,
            broker_since=self._broker_since,
            redis_since=self._redis_since,
            waiting_since=self._waiting_since,
            is_stopping=_is_stopping(),
            failed_in_a_row=troubles.in_a_row,
            failing_since=troubles.since,
        )

    def _note_turn(self) -> None:
        self._turned_at = time.monotonic()
        self._turn_is_asked_for = False

    def _ask_for_turn(self, worker: Any) -> None:
        """Have the loop of a consumer without a hub note its next turn."""
        consumer = getattr(worker, "consumer", None)
        if self._entry is None and consumer is not None and not self._turn_is_asked_for:
            self._turn_is_asked_for = True
            consumer.call_soon(self._note_turn)

    def _forget(self, sender: Any = None, **_: Any) -> None:
        """Remove what tells of this node: it ends in good order."""
        self._ended.set()
        self._files.remove(sender.hostname)
        try:
            self._nodes().remove(sender.hostname)
        except StoreError as problem:
            logger.info("node not forgotten, its note will expire: %s", problem)

    # ---- what others say

    def _keep_looking(self, worker: Any, every_s: float) -> None:
        nodes = self._nodes()
        while True:
            self._ask_for_turn(worker)
            self._ask_broker(worker)
            self._tell_redis(worker, nodes)
            if self._ended.wait(every_s):
                return

    def _ask_broker(self, worker: Any) -> None:
        asked_at = time.monotonic()
        try:
            depths = self._depths()
        except Exception as problem:  # noqa: BLE001  # each broker has errors of its own; told on, not hidden
            logger.debug("broker not asked: %r", problem)
            self._broker_since, self._waiting_since = None, {}
            return
        accepted = state.all_total_count[0]
        is_idle = len(state.active_requests) < _capacity(worker)
        self._waiting_since = noticed_waiting(
            self._waiting_since, depths, asked_at, takes_nothing=is_idle and accepted == self._accepted_before
        )
        self._accepted_before = accepted
        if self._broker_since is None:
            self._broker_since = asked_at

    def _depths(self) -> dict[str, int]:
        """Return how many messages wait on each queue of this node."""
        with self._app.connection_for_read(**_patience(self._app)) as connection:
            return {queue: messages_on(connection, queue) for queue in self._queues}

    def _tell_redis(self, worker: Any, nodes: NodeRegistry) -> None:
        pulse = self._pulse(worker)
        verdict = judge(pulse, pulse.written_at, LIMIT_S)
        note = {
            "queues": pulse.queues,
            "capacity": pulse.capacity,
            "busy": pulse.busy,
            "accepted": pulse.accepted,
            "problems": verdict.problems,
            "is_stopping": pulse.is_stopping,
            "heartbeat_s": services_of(self._app).settings.heartbeat_s,
        }
        try:
            nodes.put(pulse.node, note)
        except StoreError as problem:
            logger.debug("node not noted: %s", problem)
            self._redis_since = None
            return
        if self._redis_since is None:
            self._redis_since = pulse.written_at

    def _nodes(self) -> NodeRegistry:
        return services_of(self._app).nodes


def _capacity(worker: Any) -> int:
    return int(getattr(worker.pool, "num_processes", None) or worker.concurrency or 1)


def _runs_tasks_in_its_loop(worker: Any) -> bool:
    return type(worker.pool).__module__ == "celery.concurrency.solo"


def _is_stopping() -> bool:
    return any(asked not in (None, False) for asked in (state.should_stop, state.should_terminate))


def _patience(app: Any) -> dict[str, Any]:
    """Return options with which a broker that is not there is not waited for."""
    options: dict[str, Any] = {"connect_timeout": BROKER_TIMEOUT_S}
    if str(app.conf.broker_read_url or "").startswith(("redis", "sentinel", "valkey")):
        timeouts = {"socket_timeout": BROKER_TIMEOUT_S, "socket_connect_timeout": BROKER_TIMEOUT_S}
        options["transport_options"] = {**(app.conf.broker_transport_options or {}), **timeouts}
    return options
