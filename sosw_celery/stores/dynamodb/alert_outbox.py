"""Dead tasks that somebody has yet to be told of: small items in the table of jobs, beside the jobs.

A task dies and is owed to the outbox in one transaction, so no death is forgotten, whatever stops or comes back empty
in between, and no clock is compared with another. What is told is deleted.

    #dead#WHOM#LABOURER#TASK    in the sparse index of unfinished jobs, under `dead WHOM`; WHOM is empty for everybody
    #dead                       who tells, and until when

No job's id begins with a `#`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from sosw_celery.core.tasks.alert import Owed
from sosw_celery.core.tasks.model import LONGEST_KEY
from sosw_celery.stores.dynamodb.attributes import Item, number
from sosw_celery.stores.dynamodb.requests import WRITES_PER_BATCH, batches, query_items, translated, write_batch
from sosw_celery.stores.dynamodb.tables import Tables
from sosw_celery.text import cut_to_bytes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["EVERYBODY", "AlertOutbox"]

#: Whom a fresh death is owed to.
EVERYBODY = ""


class AlertOutbox:
    """The deaths that are not told yet. Safe to share between threads."""

    def __init__(self, client: DynamoDBClient, tables: Tables) -> None:
        self._client = client
        self._tables = tables

    def put_request(self, labourer_id: str, task_id: str, now: Decimal) -> Item:
        """Return the put that owes a death to everybody, for the transaction that makes the task dead."""
        return {"TableName": self._tables.jobs, "Item": self._item(EVERYBODY, Owed(labourer_id, task_id), now)}

    def owed(self, whom: str, limit: int) -> list[Owed]:
        """Return deaths owed to `whom` alone, or to everybody, the first one first, as the index shows them."""
        owed = (_from_key(key) for key in self._keys(whom))
        return list(itertools.islice((death for death in owed if death is not None), limit))

    def owe(self, whom: str, deaths: Sequence[Owed], now: Decimal) -> None:
        """Owe deaths to `whom` alone. Idempotent."""
        items = {_key(whom, death): self._item(whom, death, now) for death in deaths}  # a batch takes each key once
        self._write([{"PutRequest": {"Item": item}} for item in items.values()])

    def settle(self, whom: str, deaths: Sequence[Owed]) -> None:
        """Owe these deaths to `whom` no more. Idempotent."""
        key = self._tables.field("job_id")
        self._write([{"DeleteRequest": {"Key": {key: {"S": _key(whom, death)}}}} for death in deaths])

    def claim(self, now: Decimal, until: Decimal) -> bool:
        """Make the caller the one who tells until then; False while somebody else is, or has just been."""
        f = self._tables.field
        with translated("UpdateItem"):
            try:
                self._client.update_item(
                    TableName=self._tables.jobs,
                    Key={f("job_id"): {"S": "#dead"}},
                    UpdateExpression="SET #until = :until",
                    ConditionExpression="attribute_not_exists(#until) OR #until <= :now",
                    ExpressionAttributeNames={"#until": f("lease_until")},
                    ExpressionAttributeValues={":now": number(now), ":until": number(until)},
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def free(self, at: Decimal) -> None:
        """Let the next one tell from then on."""
        f = self._tables.field
        with translated("UpdateItem"):
            self._client.update_item(
                TableName=self._tables.jobs,
                Key={f("job_id"): {"S": "#dead"}},
                UpdateExpression="SET #until = :at",
                ExpressionAttributeNames={"#until": f("lease_until")},
                ExpressionAttributeValues={":at": number(at)},
            )

    def _item(self, whom: str, death: Owed, now: Decimal) -> Item:
        f = self._tables.field
        return {
            f("job_id"): {"S": _key(whom, death)},
            f("unfinished"): {"S": _stage(whom)},
            f("accepted_at"): number(now),
        }

    def _keys(self, whom: str) -> Iterator[str]:
        f = self._tables.field
        query: Item = {
            "TableName": self._tables.jobs,
            "IndexName": self._tables.unfinished_index,
            "KeyConditionExpression": "#stage = :stage",
            "ExpressionAttributeNames": {"#stage": f("unfinished")},
            "ExpressionAttributeValues": {":stage": {"S": _stage(whom)}},
        }
        return (item[f("job_id")]["S"] for item in query_items(self._client, query))

    def _write(self, requests: Sequence[Item]) -> None:
        for batch in batches(requests, WRITES_PER_BATCH):
            write_batch(self._client, self._tables.jobs, batch)


def _stage(whom: str) -> str:
    return f"dead {whom}"


def _key(whom: str, death: Owed) -> str:
    # A task id may be as long as a key may be: what does not fit is left out, because a death is never refused for the
    # word about it. The notice then names the beginning.
    return cut_to_bytes(f"#dead#{whom}#{death.labourer_id}#{death.task_id}", LONGEST_KEY)


def _from_key(key: str) -> Owed | None:
    """Return the death of a key; None where somebody put an item there that tells of none."""
    # Labourers and those who are told have no "#" in their names; the id of a task may.
    parts = key.split("#", 4)
    return Owed(parts[3], parts[4]) if len(parts) == 5 else None
