"""The worker nodes of the whole cluster, in Redis: what each thinks of itself. For people; nothing depends on it.

| key                  | holds                        | until                           |
| -------------------- | ---------------------------- | ------------------------------- |
| `PREFIX:nodes`       | a set: names of nodes        | somebody finds a note gone      |
| `PREFIX:node:{NAME}` | the node's note, a JSON text | nobody renews it for `EXPIRE_S` |
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sosw_celery.core.node_liveness import silence_of
from sosw_celery.stores.redis.errors import translated
from sosw_celery.stores.redis.replies import decoded

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["EXPIRE_S", "NodeNote", "NodeRegistry"]

#: Seconds that a silent node is still shown.
EXPIRE_S = 600


@dataclass(frozen=True)
class NodeNote:
    """The last note of a node, and how many seconds ago it was written, by the clock of Redis."""

    node: str
    age_s: float
    note: Mapping[str, Any]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the node: that it is silent, else what it knows itself."""
        silence = silence_of(self.age_s, self.note.get("heartbeat_s"))
        return (silence,) if silence else tuple(self.note.get("problems", ()))

    @property
    def serves(self) -> Sequence[str]:
        """The queues that it takes messages from; none when it is silent, or about to end."""
        is_there = silence_of(self.age_s, self.note.get("heartbeat_s")) is None
        return self.note.get("queues", ()) if is_there and not self.note.get("is_stopping") else ()


class NodeRegistry:
    """The notes of all nodes under one prefix."""

    def __init__(self, client: Redis, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def put(self, node: str, note: Mapping[str, Any]) -> None:
        """Replace a node's note.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        with translated("note node"), self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(self._key(node), json.dumps(dict(note)), ex=EXPIRE_S)
            pipeline.sadd(self._names, node)
            pipeline.execute()

    def remove(self, node: str) -> None:
        """Forget a node."""
        with translated("forget node"), self._client.pipeline(transaction=False) as pipeline:
            pipeline.delete(self._key(node))
            pipeline.srem(self._names, node)
            pipeline.execute()

    def all(self) -> list[NodeNote]:
        """Return the notes of all nodes that gave a sign of life lately, by name.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        with translated("list nodes"):
            names = sorted(decoded(name) for name in cast("set[bytes]", self._client.smembers(self._names)))
            with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.get(self._key(name))
                    pipeline.pttl(self._key(name))
                answers = pipeline.execute()
            found = dict(zip(names, zip(answers[::2], answers[1::2], strict=True), strict=True))
            gone = [name for name, (note, _) in found.items() if note is None]
            if gone:
                self._client.srem(self._names, *gone)
        return [
            NodeNote(name, max(0.0, EXPIRE_S - left_ms / 1000), json.loads(note))
            for name, (note, left_ms) in found.items()
            if note is not None
        ]

    @property
    def _names(self) -> str:
        return f"{self._prefix}:nodes"

    def _key(self, node: str) -> str:
        return f"{self._prefix}:node:{{{node}}}"
