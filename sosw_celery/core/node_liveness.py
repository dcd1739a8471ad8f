"""Whether a worker node does its work: judged by what it noted of itself last. Pure.

A process that is there may still do nothing: frozen, its event loop stuck, or its consumer deaf after the broker was
lost and came back. What a restart cannot cure (a broker or a Redis that does not answer) is no reason to ask for one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

__all__ = ["Pulse", "Verdict", "judge", "noticed_waiting", "silence_of"]

#: So many failures in a row, over a while, are no accident.
FAILURES = 5

#: A node has fallen silent when it missed so many signs of life.
MISSED = 3
#: Seconds between two signs of life of a node that does not say.
HEARTBEAT_S = 5.0


@dataclass(frozen=True)
class Pulse:
    """What a worker node knows of itself. Times are seconds of the machine's monotonic clock.

    Parameters:
        capacity, busy: Tasks that its pool may run at once, and runs.
        accepted: Tasks that its pool has taken up since the start.
        written_at: When this was noted.
        turned_at: When its event loop went round last.
        renewed_at: When the leases of its attempts were renewed last, or there was none to renew.
        lease_s: Seconds that a lease lasts.
        broker_since, redis_since: Since when the broker, and the slots' Redis, has answered each time it was asked;
            None: it did not answer the last time.
        waiting_since: Queues of the node on which messages wait although it has free processes and takes nothing up,
            and since when.
        is_stopping: It was asked to end, and finishes what runs.
        failed_in_a_row, failing_since: What its processes took up and failed with for a reason of their own since
            something got on, and since when.
    """

    node: str
    pid: int
    queues: tuple[str, ...]
    capacity: int
    busy: int
    accepted: int
    written_at: float
    turned_at: float
    renewed_at: float
    lease_s: float
    broker_since: float | None = None
    redis_since: float | None = None
    waiting_since: Mapping[str, float] = field(default_factory=dict)
    is_stopping: bool = False
    failed_in_a_row: int = 0
    failing_since: float | None = None

    def as_text(self) -> str:
        """Return the pulse as a JSON text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_text(text: str) -> Pulse:
        """Return the pulse that `as_text` made a text of. Keys that it does not know are passed over.

        Raises:
            ValueError: It is no such text.
        """
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("expected the pulse of a worker node")
        known = {one.name: found[one.name] for one in fields(Pulse) if one.name in found}
        try:
            return Pulse(**{**known, "queues": tuple(known["queues"])})
        except (KeyError, TypeError) as lacking:
            raise ValueError(f"expected the pulse of a worker node: {lacking}") from lacking


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a node.

    Parameters:
        problems: Why it has to be started anew; none: it is alive.
        remarks: What is wrong and not cured by that.
    """

    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_alive(self) -> bool:
        """Whether the node is to be left alone."""
        return not self.problems


def judge(pulse: Pulse, now: float, limit_s: float) -> Verdict:
    """Return what a node's last pulse tells of it.

    Parameters:
        now: By the same clock.
        limit_s: Seconds after which a silence counts.
    """
    silent_s = now - pulse.written_at
    if silent_s > limit_s:
        return Verdict((f"no sign of life for {silent_s:.0f} s: it is frozen, or dead",))
    if pulse.is_stopping:
        return Verdict(remarks=("it was asked to end, and finishes what runs",))
    return Verdict(tuple(_problems(pulse, limit_s)), tuple(_remarks(pulse)))


def silence_of(age_s: float, heartbeat_s: float | None) -> str | None:
    """Return what is wrong with a node whose last sign of life in Redis is so old; None: it is not too old.

    Parameters:
        heartbeat_s: Seconds between two signs of life of this node; None when it does not say.
    """
    if age_s <= MISSED * (heartbeat_s or HEARTBEAT_S):
        return None
    return f"no sign of life for {age_s:.0f} s: it is dead, frozen, or cut off from Redis"


def noticed_waiting(
    before: Mapping[str, float], depths: Mapping[str, int], now: float, *, takes_nothing: bool
) -> dict[str, float]:
    """Return the queues on which messages wait for this node, and since when.

    Parameters:
        before: What this returned the last time.
        depths: Messages on each queue.
        takes_nothing: The node has free processes, and none took anything up since the last time.
    """
    if not takes_nothing:
        return {}
    return {queue: before.get(queue, now) for queue, depth in depths.items() if depth > 0}


def _problems(pulse: Pulse, limit_s: float) -> list[str]:
    """Return what the node itself saw going wrong."""
    now = pulse.written_at
    found = []
    if pulse.broker_since is not None:
        # While the broker is away the loop stands still, and for a while after that: it waits between two tries.
        stuck_s = now - max(pulse.turned_at, pulse.broker_since)
        if stuck_s > limit_s:
            found.append(f"its event loop has not turned for {stuck_s:.0f} s, though the broker answers")
        for queue, since in pulse.waiting_since.items():
            if now - since > limit_s:
                free = f"{pulse.capacity - pulse.busy} of {pulse.capacity} processes are free"
                found.append(f"messages wait on {queue} for {now - since:.0f} s, {free} and take nothing up")
    if pulse.failing_since is not None and pulse.failed_in_a_row >= FAILURES:
        failing_s = now - pulse.failing_since
        if failing_s > limit_s:
            found.append(
                f"its processes fail before they do anything, {pulse.failed_in_a_row} times in a row for "
                f"{failing_s:.0f} s: its log says why"
            )
    if pulse.redis_since is not None:
        unrenewed_s = now - max(pulse.renewed_at, pulse.redis_since)
        if unrenewed_s > max(limit_s, pulse.lease_s):
            found.append(f"leases have not been renewed for {unrenewed_s:.0f} s, though Redis answers")
    return found


def _remarks(pulse: Pulse) -> list[str]:
    away = "does not answer; a restart would not help"
    found = [f"the broker {away}"] if pulse.broker_since is None else []
    return found if pulse.redis_since is not None else [*found, f"the Redis of the slots {away}"]
