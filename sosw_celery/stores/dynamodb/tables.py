"""The DynamoDB tables: names, keys, indexes and the request that creates each.

Names and fields are those of sosw, so that its users' tools, policies and dashboards go on working; `sosw_jobs` is
ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sosw_celery.config.history import MetaHandlerConfig
from sosw_celery.config.settings import Settings
from sosw_celery.stores.dynamodb.requests import translated

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Tables", "create_tables", "definitions"]


@dataclass(frozen=True)
class Tables:
    """How tables, indexes and fields are called.

    `field_names` maps our name of a field to its name in the tables; a field that is not named there keeps its own.
    `row_mapper` tells the DynamoDB types of further fields of a task, `required_fields` what every new row has to have,
    both by the names in the tables.
    """

    tasks: str = "sosw_tasks"
    greenfield_index: str = "sosw_tasks_greenfield"
    closed: str = "sosw_closed_tasks"
    closed_index: str = "labourer_task_status_with_time"
    retry: str = "sosw_retry_tasks"
    retry_index: str = "labourer_id_greenfield"
    jobs: str = "sosw_jobs"
    unfinished_index: str = "sosw_jobs_unfinished"
    meta: str = "sosw_tasks_meta"
    field_names: Mapping[str, str] = field(default_factory=dict)
    row_mapper: Mapping[str, str] = field(default_factory=dict)
    required_fields: tuple[str, ...] = ()

    @staticmethod
    def from_settings(settings: Settings) -> Tables:
        """Return the names that the configuration states."""
        config = settings.task_config
        history = settings.meta_handler_config or MetaHandlerConfig()
        return Tables(
            tasks=config.dynamo_db_config.table_name,
            greenfield_index=config.dynamo_db_config.index_greenfield,
            closed=config.sosw_closed_tasks_table,
            closed_index=config.sosw_closed_tasks_labourer_status_index,
            retry=config.sosw_retry_tasks_table,
            retry_index=config.sosw_retry_tasks_greenfield_index,
            jobs=config.sosw_jobs_table,
            meta=history.dynamo_db_config.table_name,
            field_names=config.dynamo_db_config.field_names,
            row_mapper=config.dynamo_db_config.row_mapper,
            required_fields=tuple(
                config.dynamo_db_config.field_names.get(name, name) for name in config.dynamo_db_config.required_fields
            ),
        )

    def field(self, name: str) -> str:
        """Return how our field `name` is called in the tables."""
        return self.field_names.get(name, name)


def definitions(tables: Tables) -> list[dict[str, Any]]:
    """Return the arguments of CreateTable for each table, with on-demand billing."""
    f = tables.field
    return [
        _table(
            tables.tasks,
            {"task_id": "S", "labourer_id": "S", "greenfield": "N"},
            key=("task_id",),
            tables=tables,
            GlobalSecondaryIndexes=[_index(tables.greenfield_index, f("labourer_id"), f("greenfield"))],
        ),
        _table(
            tables.closed,
            {"task_id": "S", "labourer_id_task_status": "S", "closed_at": "N"},
            key=("task_id",),
            tables=tables,
            GlobalSecondaryIndexes=[_index(tables.closed_index, f("labourer_id_task_status"), f("closed_at"))],
        ),
        _table(
            tables.retry,
            {"labourer_id": "S", "task_id": "S", "desired_launch_time": "N"},
            key=("labourer_id", "task_id"),
            tables=tables,
            LocalSecondaryIndexes=[_index(tables.retry_index, f("labourer_id"), f("desired_launch_time"))],
        ),
        _table(
            tables.jobs,
            {"job_id": "S", "unfinished": "S", "accepted_at": "N"},
            key=("job_id",),
            tables=tables,
            # Sparse: an item leaves the index when its job is finished, so a sweep reads only what is open.
            GlobalSecondaryIndexes=[_index(tables.unfinished_index, f("unfinished"), f("accepted_at"), "KEYS_ONLY")],
        ),
        # The history is there for the day it is switched on. `field_names` is of the tasks and does not touch it.
        _table(
            tables.meta,
            {"task_id": "S", "created_at": "N"},
            key=("task_id", "created_at"),
            tables=replace(tables, field_names={}),
        ),
    ]


def create_tables(client: DynamoDBClient, tables: Tables) -> list[str]:
    """Create the tables that do not exist yet, wait until they are active, and return their names."""
    created = []
    for definition in definitions(tables):
        with translated("CreateTable"):
            try:
                client.create_table(**definition)
            except client.exceptions.ResourceInUseException:
                continue
        created.append(definition["TableName"])
    for name in created:
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    return created


def missing_tables(client: DynamoDBClient, tables: Tables) -> list[str]:
    """Return the names of tables that do not exist."""
    missing = []
    for definition in definitions(tables):
        with translated("DescribeTable"):
            try:
                client.describe_table(TableName=definition["TableName"])
            except client.exceptions.ResourceNotFoundException:
                missing.append(definition["TableName"])
    return missing


def _table(
    name: str, types: Mapping[str, str], *, key: tuple[str, ...], tables: Tables, **indexes: Any
) -> dict[str, Any]:
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": tables.field(attribute), "AttributeType": kind} for attribute, kind in types.items()
        ],
        "KeySchema": _key(*(tables.field(attribute) for attribute in key)),
        **indexes,
    }


def _index(name: str, hash_key: str, range_key: str, projection: str = "ALL") -> dict[str, Any]:
    return {
        "IndexName": name,
        "KeySchema": _key(hash_key, range_key),
        "Projection": {"ProjectionType": projection},
    }


def _key(hash_key: str, range_key: str | None = None) -> list[dict[str, str]]:
    key = [{"AttributeName": hash_key, "KeyType": "HASH"}]
    if range_key is not None:
        key.append({"AttributeName": range_key, "KeyType": "RANGE"})
    return key
