"""The settings of tasks' history: `meta_handler_config`. It can be pasted from sosw."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from sosw_celery.config.base import Section

__all__ = ["MetaHandlerConfig", "MetaTableConfig"]

#: Types of DynamoDB that a posted field may be stored as.
TYPES = ("S", "N", "BOOL", "L", "M")


class MetaTableConfig(Section):
    """How the table of the history is called and what its rows hold."""

    #: The table of the history.
    table_name: str = Field("sosw_tasks_meta", min_length=3, max_length=255)
    #: The table's key, which sosw states here; it cannot be changed.
    hash_key: Literal["task_id"] = "task_id"
    #: DynamoDB types of posted fields; fields that are not named here have the types of their values.
    row_mapper: dict[str, str] = Field(default_factory=dict)
    #: Fields without which a row is not written. Those of every event are always there.
    required_fields: tuple[str, ...] = ()

    @field_validator("row_mapper")
    @classmethod
    def _types_are_known(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(set(value.values()) - set(TYPES)):
            raise ValueError(f"types out of {', '.join(TYPES)}, not {', '.join(unknown)}")
        return value


class MetaHandlerConfig(Section):
    """The history of every task (sosw's `meta_handler_config`); none is kept unless this section is there."""

    #: False: events are logged instead.
    write_meta_to_ddb: bool = True
    #: What the table and its fields are called.
    dynamo_db_config: MetaTableConfig = Field(default_factory=MetaTableConfig)
    #: Events that a process holds back for the next write; beyond that the oldest are dropped, with a warning.
    buffer_events: int = Field(10_000, ge=25, le=1_000_000)
    #: Seconds that an event waits at most until it is written.
    flush_s: float = Field(1.0, gt=0, le=60)
