"""The settings of the task tables: `task_config`, which can be pasted from sosw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field, field_validator

from sosw_celery.config import sosw_keys
from sosw_celery.config.base import Section
from sosw_celery.config.labourers import LabourerSettings
from sosw_celery.core.tasks.fields import ALWAYS_SET, our_names, wrong_types
from sosw_celery.core.tasks.greenfield import LONGEST_AHEAD_S
from sosw_celery.errors import ConfigError

__all__ = ["DynamoDbConfig", "TaskConfig", "problems_of_rows", "problems_of_running"]

KEY = f"{sosw_keys.ROOT}.{sosw_keys.TASKS}"


class DynamoDbConfig(Section):
    """How the task tables and their fields are called (sosw's `dynamo_db_config`)."""

    #: The table of tasks that are not closed.
    table_name: str = Field("sosw_tasks", min_length=3, max_length=255)
    #: Its index by labourer and greenfield, which orders the queues.
    index_greenfield: str = Field("sosw_tasks_greenfield", min_length=3, max_length=255)
    #: DynamoDB types of fields by their names in the tables, for fields of yours (`stat_*`, `result_*`, others). The
    #: types of our fields are fixed; they may be repeated here.
    row_mapper: dict[str, str] = Field(default_factory=dict)
    #: Fields without which no row is written: `arn`, or fields that every new row has.
    required_fields: tuple[str, ...] = ("task_id", "labourer_id", "created_at", "greenfield")
    #: Our name of a field -> its name in your tables. A field that is not named here keeps its name.
    field_names: dict[str, str] = Field(default_factory=dict)

    @field_validator("field_names")
    @classmethod
    def _names_differ(cls, value: dict[str, str]) -> dict[str, str]:
        twice = sorted({name for name in value.values() if list(value.values()).count(name) > 1})
        if twice:
            raise ValueError(f"a name of its own for each field, {', '.join(twice)} stands there twice")
        return value


class TaskConfig(Section):
    """Tables and life of tasks (sosw's `task_config`)."""

    #: The table of tasks that are not closed.
    dynamo_db_config: DynamoDbConfig = Field(default_factory=DynamoDbConfig)
    #: The table of closed tasks, completed and dead.
    sosw_closed_tasks_table: str = Field("sosw_closed_tasks", min_length=3, max_length=255)
    #: Its index by labourer and outcome, and time.
    sosw_closed_tasks_labourer_status_index: str = Field("labourer_task_status_with_time", min_length=3, max_length=255)
    #: The table of tasks that wait for a retry.
    sosw_retry_tasks_table: str = Field("sosw_retry_tasks", min_length=3, max_length=255)
    #: Its index by labourer and time of the retry.
    sosw_retry_tasks_greenfield_index: str = Field("labourer_id_greenfield", min_length=3, max_length=255)
    #: The table of jobs.
    sosw_jobs_table: str = Field("sosw_jobs", min_length=3, max_length=255)
    #: Seconds added to the time of a claim to mark a task as invoked (sosw: one year).
    greenfield_invocation_delta: int = Field(31_557_600, ge=604_800)
    #: The same as `labourers` of the section, at sosw's place; each labourer is in one of the two.
    labourers: dict[str, LabourerSettings] = Field(default_factory=dict)
    #: Closed tasks that are looked at for the average and the maximum duration of a labourer's tasks.
    max_closed_to_analyse_for_duration: int = Field(50, ge=1, le=1000)


def problems_of_running(section: TaskConfig, labourers: Mapping[str, LabourerSettings]) -> Iterator[ConfigError]:
    """Yield an invocation delta that an attempt may outlast: its row would read as that of a queued task again."""
    delta = section.greenfield_invocation_delta
    for name, labourer in labourers.items():
        longest_s = labourer.duration + labourer.cooldown + LONGEST_AHEAD_S
        if delta <= longest_s:
            expected = (
                f"more than {longest_s:.0f}, so that no attempt of {name} that runs counts as queued: its duration"
                f" ({labourer.duration:g}) and cooldown ({labourer.cooldown:g}), and {LONGEST_AHEAD_S} for clocks"
            )
            yield ConfigError(f"{KEY}.greenfield_invocation_delta", delta, expected)


def problems_of_rows(table: DynamoDbConfig, labourers: Mapping[str, LabourerSettings]) -> Iterator[ConfigError]:
    """Yield what `row_mapper` and `required_fields` ask for and rows cannot have."""
    key = f"{KEY}.{sosw_keys.TABLE}"
    for name, expected in wrong_types(table.row_mapper, table.field_names):
        yield ConfigError(f"{key}.row_mapper.{name}", table.row_mapper[name], expected)
    required = our_names(table.required_fields, table.field_names)
    for name in required:
        if name not in (*ALWAYS_SET, "arn"):
            expected = f"fields that new rows have: {', '.join((*ALWAYS_SET, 'arn'))}"
            yield ConfigError(f"{key}.required_fields", name, expected)
    for labourer_id, labourer in labourers.items():
        if "arn" in required and not labourer.arn:
            expected = "an arn, since required_fields asks for one on each row"
            yield ConfigError(f"{sosw_keys.ROOT}.labourers.{labourer_id}.arn", labourer.arn, expected)
