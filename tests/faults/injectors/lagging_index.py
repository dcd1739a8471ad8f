"""Indexes that lag: queries of them show what the tables held some seconds ago.

Each table gets a twin with the same keys and indexes, to which its changes are carried over when they are old enough,
in their order, as its stream tells of them. A rule of `aws_rules` sends the queries of the processes under test to the
twin. So a new row is not there yet, and one that was claimed, closed or deleted since is shown as it was.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.faults.injectors.aws_rules import Fault, Rule

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["LaggingIndexes"]

POLL_S = 0.1
WRITES_PER_BATCH = 25
#: What CreateTable takes of what DescribeTable tells, for the table and for each index.
OF_TABLE = ("AttributeDefinitions", "KeySchema")
OF_INDEX = ("IndexName", "KeySchema", "Projection")

Image = dict[str, Any]


class LaggingIndexes:
    """Twins of tables, `lag_s` behind them while the block runs. Enter it while the tables are empty.

    Parameters:
        lag_s: May be changed at any time.
    """

    def __init__(self, endpoint: str, tables: Sequence[str], *, lag_s: float) -> None:
        # The engine's names of shards are shorter than botocore would have them.
        config = Config(retries={"mode": "standard"}, parameter_validation=False)
        self._client: DynamoDBClient = boto3.client("dynamodb", endpoint_url=endpoint, config=config)
        self._streams: Any = boto3.client("dynamodbstreams", endpoint_url=endpoint, config=config)
        self.lag_s = lag_s
        self.twins = {table: f"{table}_lagging" for table in tables}
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=(table,), name=f"twin of {table}", daemon=True)
            for table in tables
        ]

    def rule(self, share: float = 1.0) -> Rule:
        """Return the rule by which that share of the indexes' queries is answered late."""
        return Rule(Fault.STALE, share, twins=self.twins)

    def __enter__(self) -> LaggingIndexes:
        for table, twin in self.twins.items():
            self._create(table, twin)
            stream = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
            self._client.update_table(TableName=table, StreamSpecification=stream)  # type: ignore[arg-type]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._streams.close()

    def _create(self, table: str, twin: str) -> None:
        described: dict[str, Any] = dict(self._client.describe_table(TableName=table)["Table"])
        definition = {name: described[name] for name in OF_TABLE}
        for kind in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes"):
            if indexes := described.get(kind):
                definition[kind] = [{name: index[name] for name in OF_INDEX} for index in indexes]
        self._client.create_table(TableName=twin, BillingMode="PAY_PER_REQUEST", **definition)

    def _follow(self, table: str) -> None:
        """Carry the table's changes over, each when it is old enough."""
        changes: deque[tuple[float, Image]] = deque()
        place: str | None = None
        while not self._ended.wait(POLL_S):
            try:
                place = place or self._beginning(table)
                answer = self._streams.get_records(ShardIterator=place)
                seen_at = time.monotonic()
                changes.extend((seen_at, record["dynamodb"]) for record in answer["Records"])
                place = answer["NextShardIterator"]
                self._carry_over(self.twins[table], changes)
            except (BotoCoreError, ClientError):  # the engine stands still in this run as well; it is asked again
                continue

    def _beginning(self, table: str) -> str:
        (stream,) = self._streams.list_streams(TableName=table)["Streams"]
        arn = stream["StreamArn"]
        (shard,) = self._streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        started = self._streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        return str(started["ShardIterator"])

    def _carry_over(self, twin: str, changes: deque[tuple[float, Image]]) -> None:
        while changes and changes[0][0] + self.lag_s <= time.monotonic():
            batch: dict[str, Any] = {}
            count = 0
            for seen_at, change in changes:
                key = repr(sorted(change["Keys"].items()))
                is_full = len(batch) == WRITES_PER_BATCH and key not in batch
                if is_full or seen_at + self.lag_s > time.monotonic():
                    break
                image = change.get("NewImage")
                batch[key] = {"PutRequest": {"Item": image}} if image else {"DeleteRequest": {"Key": change["Keys"]}}
                count += 1
            self._client.batch_write_item(RequestItems={twin: list(batch.values())})
            for _ in range(count):  # only now, so that a failed write is done again
                changes.popleft()
