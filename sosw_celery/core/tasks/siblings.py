"""Tasks that a running task asks for, of its own labourer: which id they get, and how long a line of them may be."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from sosw_celery.core.jobs.payload import check_json, check_payload_size, payload_text
from sosw_celery.core.tasks.model import DEPTH
from sosw_celery.errors import SiblingRefused
from sosw_celery.text import kind_of

__all__ = ["DEPTH", "PARENT", "Sibling", "next_depth", "sibling_id"]

#: Names the ids of siblings among all UUIDs. Changing it would spawn again what a running task has spawned before.
NAMESPACE = uuid.UUID("b3c5b0de-6a0a-5a55-8d2e-4d0c6f4c1f0a")

#: Field of a sibling's row: the task that asked for it.
PARENT = "spawned_by"


class Sibling(NamedTuple):
    """A task that a running one asks for.

    Parameters:
        task_id: The same for each run of the parent that asks for the same.
        payload: The JSON text of its event.
        depth: 1 for a sibling of a task that was no sibling itself.
    """

    task_id: str
    payload: str
    depth: int

    def as_message(self) -> dict[str, Any]:
        """Return the sibling as a closing message carries it."""
        return dict(self._asdict())

    @staticmethod
    def from_message(message: object) -> Sibling:
        """Return the sibling that `as_message` made a message of. Keys that it does not know are passed over.

        Raises:
            ValueError: It made no such message.
        """
        if not isinstance(message, Mapping):
            raise ValueError(f"expected task_id, payload and depth of a sibling, got {kind_of(message)}")
        task_id, payload, depth = message.get("task_id"), message.get("payload"), message.get("depth", 1)
        if not (isinstance(task_id, str) and isinstance(payload, str) and isinstance(depth, int)):
            got = ", ".join(map(kind_of, (task_id, payload, depth)))
            raise ValueError(f"expected task_id and payload as texts and depth as a whole number, got {got}")
        return Sibling(task_id, payload, depth)

    @staticmethod
    def of(parent_id: str, depth: int, payload: Mapping[str, Any], spawned: list[Sibling]) -> Sibling:
        """Return the sibling that a run of the parent asks for now.

        Parameters:
            depth: Of the sibling, from `next_depth`.
            spawned: What this run has asked for before.

        Raises:
            InvalidJob: The payload is not what JSON can say, or too large for a row.
        """
        check_json(dict(payload))
        text = payload_text(dict(payload))
        check_payload_size(text)
        before = sum(sibling.payload == text for sibling in spawned)
        return Sibling(sibling_id(parent_id, text, before), text, depth)


def sibling_id(parent_id: str, payload: str, before: int) -> str:
    """Return the id of a sibling: the same whenever its parent asks for the same payload, however often it is run.

    By the payload, not by a count alone: a second run of the parent may have got less far than the first, and what it
    then leaves to a sibling is more.

    Parameters:
        before: How many siblings with this payload the same run has asked for already.
    """
    digest = hashlib.sha256(payload.encode()).hexdigest()
    return str(uuid.uuid5(NAMESPACE, f"{parent_id}/{digest}/{before}"))


def next_depth(who: str, depth: int, limit: int) -> int:
    """Return the depth of a sibling of something of this depth.

    Parameters:
        who: The task or job that asks, for the error.

    Raises:
        SiblingRefused: The line has reached the limit: nothing is spawned.
    """
    if depth >= limit:
        raise SiblingRefused(who, depth, limit)
    return depth + 1
