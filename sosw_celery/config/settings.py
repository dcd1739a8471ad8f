"""The `sosw` section of `celeryconfig.py` as frozen values, checked when it is read.

The keys are those of sosw, so that its configuration can be pasted in; keys of our own have a unit in their name where
a type cannot hold one (`lease_s`). An unknown key is refused with a suggestion, a wrong value with its dotted path and
what is expected.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import redis
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sosw_celery.config import sosw_keys
from sosw_celery.config.alerts import NoticesConfig, SnsConfig
from sosw_celery.config.health import EcologyConfig, HealthMetric, coefficients
from sosw_celery.config.history import MetaHandlerConfig, MetaTableConfig
from sosw_celery.config.masking import masked
from sosw_celery.core.chunking import parse_levels
from sosw_celery.core.health import EcoStatus, Metric
from sosw_celery.core.http_address import http_address
from sosw_celery.core.rates import Rate, parse_rate
from sosw_celery.core.redis_address import redis_address
from sosw_celery.core.tasks.fields import ALWAYS_SET, our_names, wrong_types
from sosw_celery.core.tasks.greenfield import LONGEST_AHEAD_S
from sosw_celery.core.tasks.retrying import RetryPolicy
from sosw_celery.delays import LONGEST_DELAY_S
from sosw_celery.errors import ConfigError
from sosw_celery.names import UNRESERVED, is_reserved

__all__ = [
    "KNOWN_KEYS",
    "DynamoDbConfig",
    "JobSchema",
    "Labourer",
    "LabourerSettings",
    "Reading",
    "ScheduledJob",
    "Settings",
    "StoredConfig",
    "TaskConfig",
    "greenfield_delta",
    "load_settings",
    "read_settings",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

SECTION = sosw_keys.ROOT

#: Labourer and queue names travel in DynamoDB keys, Redis keys and queue names: what AWS allows a Lambda's name to be.
LABOURER_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,139}$"

#: Share of a lease's time for which it is relied on.
PATIENCE = 0.8
#: Seconds that a labourer may take to be made ready for a task, however short its tasks are.
READY_S = 300.0

#: Share of `part_lease_s`, and seconds at most: before its end, in which the owner of a part begins no write, and after
#: it, in which nobody takes the part over. Long enough for a request that is on its way.
PART_MARGIN, LONGEST_MARGIN_S = 0.2, 20.0


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class DynamoDbConfig(_Section):
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


class LabourerSettings(_Section):
    """One type of worker: its resource limits and how its failures are treated."""

    #: Kept on each task for tools that read it; with `invoke: lambda` the function to invoke.
    arn: str = ""
    #: What runs its tasks: Python code in its workers (`celery`), or the Lambda function `arn`, which they invoke.
    invoke: Literal["celery", "lambda"] = "celery"
    #: Slots: how many attempts of this labourer run at once in the whole cluster; None takes that of the section.
    max_simultaneous_invocations: int | None = Field(None, ge=1, le=1_000_000)
    #: Seconds that the body of one attempt may run; then it is killed and counts as failed.
    duration: float = Field(900, gt=0, le=604_800)
    #: Seconds after `duration` when a task that nobody closed counts as expired.
    cooldown: float = Field(300, ge=0, le=604_800)
    #: Attempts after which a task is dead; None takes the `max_attempts` of the section.
    max_attempts: int | None = Field(None, ge=1, le=10_000)
    #: Starts per time in the whole cluster, in Celery's notation: `10/s`, `100/m`, `1000/h`. None: not limited. In any
    #: window of t seconds at most `rate_burst` + rate x t bodies start.
    rate_limit: str | float | None = None
    #: How many may start at once after a pause; None: what is due in a tenth of a second, at least 1.
    rate_burst: int | None = Field(None, ge=1, le=1_000_000)
    #: Seconds before the first retry, doubled with each further one; None takes that of the section.
    retry_backoff: float | None = Field(None, ge=0, le=LONGEST_DELAY_S)
    #: Longest wait between two attempts, seconds; None takes that of the section.
    retry_backoff_max: float | None = Field(None, ge=0, le=LONGEST_DELAY_S)
    #: Whether waits are spread at random between 0 and the backoff; None takes that of the section.
    retry_jitter: bool | None = None
    #: The place of its class, `my_module:Processor`, if the class has no `name`; workers import it.
    worker: str | None = None
    #: Replaces values of the DEFAULT_CONFIG of its class and of the stored configuration.
    custom_config: dict[str, Any] = Field(default_factory=dict)
    #: Who writes to the tasks table for its attempts: its workers themselves (`direct`), or the essentials, for workers
    #: that have no permission to (`assistant`).
    close_through: Literal["direct", "assistant"] = "direct"
    #: Metrics of its health: a name that you choose -> the metric.
    health_metrics: dict[str, HealthMetric] = Field(default_factory=dict)

    @field_validator("worker")
    @classmethod
    def _class_has_a_place(cls, value: str | None) -> str | None:
        return _place_of_class(value, "my_module:Processor")

    @field_validator("health_metrics", mode="before")
    @classmethod
    def _none_is_no_metric(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("rate_limit")
    @classmethod
    def _rate_can_be_read(cls, value: str | float | None) -> str | float | None:
        if value is not None:
            parse_rate(value)
        return value


class TaskConfig(_Section):
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


class JobSchema(_Section):
    """The levels of a job that can be chunked, outermost first."""

    #: Names (`"store"`), or pairs with options (`("city", {"plural": "cities"})`).
    chunkable_attrs: tuple[Any, ...] = ()

    @field_validator("chunkable_attrs", mode="before")
    @classmethod
    def _levels_can_be_read(cls, value: Any) -> tuple[Any, ...]:
        parse_levels(value, "")
        return tuple(value)


class StoredConfig(_Section):
    """Where labourers find the part of their configuration that can be changed while they run.

    The entry of a labourer is called `LABOURER_ID_config` and holds the JSON text of an object.
    """

    #: `dynamo`: a table as sosw's `config`; `ssm`: the parameter store. None: there is no such part.
    source: Literal["dynamo", "ssm"] | None = None
    #: The table, with the keys `env` and `config_name` and the field `config_value`.
    table_name: str = Field("config", min_length=3, max_length=255)
    #: Value of the key `env` in that table.
    env: str = Field("production", min_length=1)
    #: Beginning of the name of each parameter: `/sosw/`.
    ssm_prefix: str = ""
    #: Seconds after which a process reads its entry again, before its next run.
    refresh_s: float = Field(300, ge=0)


class ScheduledJob(_Section):
    """A job that celery beat submits: `schedule` is seconds, a crontab text, or Celery's `crontab(...)`."""

    #: When: seconds, a crontab text of five fields, or Celery's `crontab(...)` or `schedule(...)`.
    schedule: Any
    #: What is submitted then, without a `job_id`: that is made of the entry's name and the planned time.
    job: dict[str, Any]
    #: Name of the zone whose wall clock a crontab follows; None takes that of the section.
    timezone: str | None = None

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        return value if value is None else _zone(value)


class Settings(_Section):
    """Everything that the `sosw` dict of `celeryconfig.py` may say."""

    #: The types of workers: `labourer_id` -> its limits.
    labourers: dict[str, LabourerSettings] = Field(default_factory=dict)
    #: Names of tables, indexes and fields.
    task_config: TaskConfig = Field(default_factory=TaskConfig)

    #: The levels of jobs that name no `job_schema_name`.
    job_schema: JobSchema = Field(default_factory=JobSchema)
    #: Levels by the `job_schema_name` of jobs; a variant `default` takes the place of `job_schema`.
    job_schema_variants: dict[str, JobSchema] = Field(default_factory=dict)
    #: Pattern of a period -> function `(match, today) -> list of YYYY-MM-DD`, or its dotted path `module:function`, or
    #: the name of a method of `scheduler_class`. A list of patterns, as in sosw, names methods by their texts.
    custom_period_patterns: dict[str, Callable[..., list[str]] | str] = Field(default_factory=dict)
    #: A subclass of `Scheduler` to use in its place, `my_module:OurScheduler`; None: none.
    scheduler_class: str | None = None
    #: Zone that decides what "today" is, and the wall clock of crontabs, unless a job or an entry names its own.
    timezone: str = "UTC"

    #: Where queue files are: the name of an S3 bucket, or `file:///a/directory`.
    queue_bucket: str = "file:///tmp/sosw-celery-queue"
    #: Beginning of the names of queue files.
    s3_prefix: str = "sosw/scheduler"
    #: Name of queue files; the id of the job and the number of the part are put in front of the suffix.
    queue_file: str = "tasks_queue.txt"
    #: Rows between two checkpoints of a Scheduler.
    rows_to_process: int = Field(500, ge=1, le=100_000)
    #: Rows of one part of a queue file; each part is the work of one sibling.
    rows_per_file: int = Field(10_000, ge=1, le=1_000_000)
    #: Seconds that one Scheduler task works before it hands over to a sibling.
    scheduler_max_run: float = Field(600, gt=0)
    #: Seconds before the end of that time in which no new batch is begun (sosw: remaining time of the Lambda).
    shutdown_period: float = Field(60, ge=0)
    #: Seconds after which the part of a silent Scheduler may be taken over, plus a fifth of it (at most 20 s). Half of
    #: that fifth is the time that a request of 25 rows may take.
    part_lease_s: float = Field(30, ge=1)

    #: Slots of each labourer that does not state its own.
    max_simultaneous_invocations: int = Field(1, ge=1, le=1_000_000)
    #: Attempts after which a task is dead.
    max_attempts: int = Field(3, ge=1, le=10_000)
    #: Seconds before the first retry, doubled with each further one.
    retry_backoff: float = Field(1.0, ge=0, le=LONGEST_DELAY_S)
    #: Longest wait between two attempts, seconds.
    retry_backoff_max: float = Field(600.0, ge=0, le=LONGEST_DELAY_S)
    #: Whether waits are spread at random between 0 and the backoff.
    retry_jitter: bool = True

    #: Redis that holds slots and leases (it may be the broker's own); every key begins with `redis_prefix`. As redis-py
    #: spells it (`redis://`, `rediss://`, `unix://`), or as Celery does (`redis+socket://`). No Sentinel.
    redis_url: str = "redis://127.0.0.1:6379/0"
    #: Keeps several systems on one Redis apart.
    redis_prefix: str = Field("sosw", pattern=r"^[A-Za-z0-9_.-]+$")
    #: For an engine other than AWS's own: `http://127.0.0.1:8000`.
    dynamodb_endpoint: str | None = None
    #: For an S3 other than AWS's own.
    s3_endpoint: str | None = None
    #: None: what `AWS_DEFAULT_REGION` or the profile says.
    aws_region: str | None = None

    #: Seconds that a running attempt keeps its slot without a sign of life from its node.
    lease_s: float = Field(20.0, ge=1)
    #: Seconds between two signs of life.
    renew_s: float = Field(3.0, gt=0)
    #: Seconds that a slot waits for a worker to take up its hint; the safety net lengthens it while the broker has it.
    hint_lease_s: float = Field(6.0, ge=1)
    #: Seconds after a message came in for which its process goes on with the tasks that its slot is given to next,
    #: without another message; 0: there is a message for every task.
    line_s: float = Field(1.0, ge=0, le=60)
    #: Seconds without new grants after Redis came back empty, in which every node reports what it runs.
    settle_s: float = Field(5.0, ge=0)
    #: Seconds between two looks of the safety net at all labourers, in case a message was lost.
    safety_net_s: float = Field(2.0, gt=0)
    #: Seconds between two looks at all labourers for something to sweep.
    sweep_s: float = Field(2.0, gt=0)
    #: Seconds between two signs of life that a worker node leaves for `sosw-celery health`.
    heartbeat_s: float = Field(5.0, gt=0)

    #: Seconds between two sweeps of unfinished jobs.
    sweep_jobs_s: float = Field(10.0, gt=0)

    #: How many siblings may come one after the other, each spawned by the one before it.
    max_sibling_depth: int = Field(100, ge=0, le=1_000_000)
    #: Where labourers find the stored part of their configuration.
    stored_config: StoredConfig = Field(default_factory=StoredConfig)

    #: Jobs that beat submits: a name -> the job and when.
    scheduled_jobs: dict[str, ScheduledJob] = Field(default_factory=dict)

    #: What the health metrics of all labourers have in common.
    ecology_config: EcologyConfig = Field(default_factory=EcologyConfig)
    #: Eco status 0 to 4 -> share of a labourer's cap; statuses that are not stated keep sosw's value.
    invocation_number_coefficient: dict[EcoStatus, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)

    #: The history of every task, in a separate table; None: none is kept.
    meta_handler_config: MetaHandlerConfig | None = None

    #: Notices about dead tasks.
    notices: NoticesConfig = Field(default_factory=NoticesConfig)
    #: The SNS topic for notices of dead tasks.
    sns_config: SnsConfig = Field(default_factory=SnsConfig)

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        return _zone(value)

    @field_validator("scheduler_class")
    @classmethod
    def _scheduler_has_a_place(cls, value: str | None) -> str | None:
        return _place_of_class(value, "my_module:OurScheduler")

    @field_validator("redis_url")
    @classmethod
    def _redis_can_be_asked(cls, value: str) -> str:
        address = redis_address(value)
        try:
            redis.ConnectionPool.from_url(address).make_connection()  # connects to nothing yet
        except (ValueError, TypeError, redis.RedisError) as problem:
            raise ValueError(f"an address whose options redis-py takes ({problem})") from problem
        return address

    @field_validator("dynamodb_endpoint", "s3_endpoint")
    @classmethod
    def _engine_has_an_address(cls, value: str | None) -> str | None:
        return value if value is None else http_address(value)

    @field_validator("queue_bucket")
    @classmethod
    def _bucket_is_a_place(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme == "file" and not url.netloc and url.path.startswith("/"):
            return value
        if "/" in value or ":" in value or not 3 <= len(value) <= 63:
            raise ValueError("the name of an S3 bucket, or file:///a/directory")
        return value

    @cached_property
    def system(self) -> str:
        """What its messages call this system: whose keys and whose tables, and where, as far as the settings say."""
        where = masked(self.dynamodb_endpoint) or self.aws_region or "AWS"
        tables = (self.task_config.dynamo_db_config.table_name, self.task_config.sosw_jobs_table)
        return f"{self.redis_prefix}: {', '.join(tables)} at {where}"

    @property
    def patience_s(self) -> float:
        """For how long after it was asked for or renewed a lease is relied on: Redis gives the slot on later."""
        return PATIENCE * self.lease_s

    @property
    def part_margin_s(self) -> float:
        """How long before the end of its lease on a part a Scheduler stops, and after it another one may begin."""
        return min(PART_MARGIN * self.part_lease_s, LONGEST_MARGIN_S)

    @property
    def row_timeout_s(self) -> float:
        """How long a request with rows may take to be sent, and then to be answered: both together, the margin."""
        return self.part_margin_s / 2

    @field_validator("s3_prefix", "queue_file")
    @classmethod
    def _name_stays_inside(cls, value: str) -> str:
        if not value or value.startswith("/") or ".." in value.split("/") or "\\" in value or not value.isprintable():
            raise ValueError("a relative name without '..', backslashes and control characters")
        return value

    @model_validator(mode="before")
    @classmethod
    def _gather_labourers(cls, data: Any) -> Any:
        """sosw names labourers in `task_config`; both places are read, one labourer stands in one of them."""
        if not isinstance(data, Mapping) or not isinstance(data.get("task_config"), Mapping):
            return data
        inner = data["task_config"].get("labourers") or {}
        outer = data.get("labourers") or {}
        if not isinstance(inner, Mapping) or not isinstance(outer, Mapping):
            return data
        twice = sorted(name for name in inner.keys() & outer.keys() if inner[name] != outer[name])
        if twice:
            raise ValueError(f"each labourer in one place: {', '.join(twice)} differ in labourers and in task_config")
        return {**data, "labourers": {**inner, **outer}}

    @cached_property
    def health_coefficients(self) -> Mapping[EcoStatus, float]:
        """The share of its cap that a labourer has, for each eco status."""
        return coefficients(self.invocation_number_coefficient)

    @cached_property
    def health_metrics(self) -> Mapping[str, tuple[Metric, ...]]:
        """The metrics of each labourer that has some, every value stated."""
        return {
            labourer_id: tuple(
                self.ecology_config.metric(f"{SECTION}.labourers.{labourer_id}.health_metrics.{name}", name, stated)
                for name, stated in labourer.health_metrics.items()
            )
            for labourer_id, labourer in self.labourers.items()
            if labourer.health_metrics
        }

    @property
    def tells_of_dead_tasks(self) -> bool:
        """Whether anybody gets notices."""
        return bool(self.sns_config.recipient or self.notices.webhook or self.notices.call)

    def labourer(self, labourer_id: str) -> Labourer:
        """Return what is configured for a labourer, with the section's values where its own are not stated.

        A labourer that is not configured (a task of it may be in the table all the same) has the defaults: one slot.
        """
        return self.all_labourers.get(labourer_id) or self._make_labourer(labourer_id)

    @cached_property
    def all_labourers(self) -> dict[str, Labourer]:
        """Those that are configured: made once, since they are asked for several times in each run of a task."""
        return {labourer_id: self._make_labourer(labourer_id) for labourer_id in self.labourers}

    def _make_labourer(self, labourer_id: str) -> Labourer:
        own = self.labourers.get(labourer_id, LabourerSettings())
        return Labourer(
            id=labourer_id,
            slots=_first(own.max_simultaneous_invocations, self.max_simultaneous_invocations),
            rate=None if own.rate_limit is None else replace(parse_rate(own.rate_limit), at_once=own.rate_burst),
            duration_s=own.duration,
            cooldown_s=own.cooldown,
            retry_policy=RetryPolicy(
                max_attempts=_first(own.max_attempts, self.max_attempts),
                backoff_s=_first(own.retry_backoff, self.retry_backoff),
                backoff_max_s=_first(own.retry_backoff_max, self.retry_backoff_max),
                jitter=_first(own.retry_jitter, self.retry_jitter),
            ),
            health_metrics=self.health_metrics.get(labourer_id, ()),
            through_assistant=own.close_through == "assistant",
        )


@dataclass(frozen=True)
class Labourer:
    """A labourer as the services see it: every value stated.

    Parameters:
        slots: How many of its attempts run at once in the whole cluster.
        rate: How often one may start in the whole cluster; None is not limited.
        duration_s: Seconds that the body of an attempt may run before it is killed.
        cooldown_s: Seconds after that, and after `ready_s`, when a task that nobody closed counts as expired.
        health_metrics: What its health is told by; none: it is always healthy.
        average_duration_s, max_duration_s: What its last tasks took, where that was looked up; else None.
        through_assistant: Whether its workers have no access to the tables.
    """

    id: str
    slots: int
    rate: Rate | None
    duration_s: float
    cooldown_s: float
    retry_policy: RetryPolicy
    health_metrics: tuple[Metric, ...] = ()
    average_duration_s: float | None = None
    max_duration_s: float | None = None
    through_assistant: bool = False

    @property
    def ready_s(self) -> float:
        """Seconds that each step before the body may take, `__init__` above all, before the attempt is killed."""
        return max(READY_S, self.duration_s)


@dataclass(frozen=True)
class Reading:
    """What a section says.

    Parameters:
        settings: None when there is a problem.
        problems: Every key that is unknown or whose value cannot be used.
        ignored: Keys of sosw that are accepted and have no meaning here.
        moved: Keys of sosw that count at another place here.
    """

    settings: Settings | None
    problems: tuple[ConfigError, ...] = ()
    ignored: tuple[sosw_keys.Ignored, ...] = ()
    moved: tuple[sosw_keys.Moved, ...] = ()


def load_settings(section: Mapping[str, Any]) -> Settings:
    """Return the settings that the `sosw` dict of `celeryconfig.py` states; it may be pasted from sosw.

    Keys of sosw that have no meaning here are accepted, and named in the log.

    Raises:
        ConfigError: A key is unknown or a value cannot be used; names the first one found, with its dotted path.
    """
    reading = read_settings(section)
    if reading.settings is None:
        raise reading.problems[0]
    for one in reading.ignored:
        logger.info("%s has no effect: %s", one.key, one.reason)
    return reading.settings


def read_settings(section: Any) -> Reading:
    """Return all that there is to say about a section. Raises nothing and logs nothing."""
    if not isinstance(section, Mapping):
        return Reading(None, (ConfigError(SECTION, section, "a dict of settings"),))
    translation = sosw_keys.translate(section, KNOWN_KEYS)
    problems = list(translation.problems)
    settings = None
    try:
        settings = Settings.model_validate(translation.section)
    except ValidationError as error:
        problems += _unique(_config_error(dict(one)) for one in error.errors(include_url=False))
    else:
        problems += _problems_together(settings)
    return Reading(
        None if problems else settings,
        tuple(
            ConfigError(translation.origin(one.key), masked(one.value, one.key.rpartition(".")[2]), one.expected)
            for one in problems
        ),
        tuple(translation.ignored),
        tuple(translation.moved),
    )


def _problems_together(settings: Settings) -> Iterator[ConfigError]:
    """Yield values that are good alone and break a promise together."""
    for name, labourer in settings.labourers.items():
        if labourer.rate_burst is not None and labourer.rate_limit is None:
            yield ConfigError(f"{SECTION}.labourers.{name}.rate_burst", labourer.rate_burst, "a rate_limit beside it")
        if not re.match(LABOURER_ID_PATTERN, name):
            yield ConfigError(f"{SECTION}.labourers", name, "names of letters, digits, '.', '_' and '-'")
        elif is_reserved(name):
            yield ConfigError(f"{SECTION}.labourers", name, UNRESERVED)
    if settings.renew_s * 2 > settings.lease_s:
        expected = "at most half of lease_s, so that one lost renewal loses no lease"
        yield ConfigError(f"{SECTION}.renew_s", settings.renew_s, expected)
    if settings.safety_net_s * 2 > settings.hint_lease_s:
        expected = "at most half of hint_lease_s, so that hints that wait keep their slots"
        yield ConfigError(f"{SECTION}.safety_net_s", settings.safety_net_s, expected)
    if 0 < settings.settle_s <= settings.renew_s:
        expected = "more than renew_s, so that every node reports before slots are granted"
        yield ConfigError(f"{SECTION}.settle_s", settings.settle_s, expected)
    yield from _problems_of_running(settings)
    yield from _problems_of_rows(settings)
    yield from _problems_of_lambdas(settings)
    try:
        _ = settings.health_metrics
    except ConfigError as problem:
        yield problem


def _problems_of_running(settings: Settings) -> Iterator[ConfigError]:
    """Yield an invocation delta that an attempt may outlast: its row would read as that of a queued task again."""
    delta = settings.task_config.greenfield_invocation_delta
    for name in settings.labourers:
        labourer = settings.labourer(name)
        longest_s = labourer.duration_s + labourer.cooldown_s + LONGEST_AHEAD_S
        if delta <= longest_s:
            expected = (
                f"more than {longest_s:.0f}, so that no attempt of {name} that runs counts as queued: its duration"
                f" ({labourer.duration_s:g}) and cooldown ({labourer.cooldown_s:g}), and {LONGEST_AHEAD_S} for clocks"
            )
            yield ConfigError(f"{SECTION}.{sosw_keys.TASKS}.greenfield_invocation_delta", delta, expected)


def _problems_of_lambdas(settings: Settings) -> Iterator[ConfigError]:
    """Yield labourers that are to be Lambda functions and do not say which, or are to be something else as well."""
    for name, labourer in settings.labourers.items():
        key = f"{SECTION}.labourers.{name}"
        if labourer.invoke == "lambda" and not labourer.arn:
            yield ConfigError(f"{key}.arn", labourer.arn, "the ARN or name of the Lambda function to invoke")
        if labourer.invoke == "lambda" and labourer.worker is not None:
            yield ConfigError(f"{key}.worker", labourer.worker, "no class: its tasks are run by the Lambda function")


def _problems_of_rows(settings: Settings) -> Iterator[ConfigError]:
    """Yield what `row_mapper` and `required_fields` ask for and rows cannot have."""
    table = settings.task_config.dynamo_db_config
    key = f"{SECTION}.{sosw_keys.TASKS}.{sosw_keys.TABLE}"
    for name, expected in wrong_types(table.row_mapper, table.field_names):
        yield ConfigError(f"{key}.row_mapper.{name}", table.row_mapper[name], expected)
    required = our_names(table.required_fields, table.field_names)
    for name in required:
        if name not in (*ALWAYS_SET, "arn"):
            expected = f"fields that new rows have: {', '.join((*ALWAYS_SET, 'arn'))}"
            yield ConfigError(f"{key}.required_fields", name, expected)
    for labourer_id, labourer in settings.labourers.items():
        if "arn" in required and not labourer.arn:
            expected = "an arn, since required_fields asks for one on each row"
            yield ConfigError(f"{SECTION}.labourers.{labourer_id}.arn", labourer.arn, expected)


def _first(own: T | None, common: T) -> T:
    return common if own is None else own


def greenfield_delta(settings: Settings) -> Decimal:
    """Return the seconds that mark a task as invoked, as the exact number that goes into the table."""
    return Decimal(settings.task_config.greenfield_invocation_delta)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError; a directory's name an OSError
        raise ValueError("the name of a time zone, as Europe/Amsterdam") from None
    return name


def _place_of_class(value: str | None, example: str) -> str | None:
    if value is not None and not re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", value):
        raise ValueError(f"a module and a class in it, as {example}")
    return value


def _config_error(first: Mapping[str, Any]) -> ConfigError:
    # Keys in angle brackets or with "function-" are pydantic's own words for a union's branches.
    steps = [str(step) for step in first["loc"] if not str(step).startswith(("function-", "callable", "is-instance"))]
    key = ".".join([SECTION, *steps])
    if first["type"] == "extra_forbidden":
        return ConfigError(key, first["input"], f"a known key{_suggestion(steps)}")
    problem = first.get("ctx", {}).get("error")
    if isinstance(problem, ConfigError):  # of a part of the value; its key goes on from here
        return ConfigError(f"{key}{problem.key}", problem.value, problem.expected)
    # The whole section is no value to show: it may hold passwords.
    value = first["input"] if steps else sorted(map(str, first["input"]))
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return ConfigError(key, value, expected)


def _unique(errors: Iterator[ConfigError]) -> list[ConfigError]:
    """Return the first error of each key: a union tells one for each of its branches."""
    by_key: dict[str, ConfigError] = {}
    for error in errors:
        by_key.setdefault(error.key, error)
    return list(by_key.values())


def _suggestion(steps: list[str]) -> str:
    model = _model_at(steps[:-1])
    names = [*(model.model_fields if model else ()), *sosw_keys.names_known_at(".".join(steps[:-1]))]
    close = difflib.get_close_matches(steps[-1], [name for name in names if name != steps[-1]], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _model_at(steps: list[str]) -> type[BaseModel] | None:
    """Return the section in which the key of a path stands; names of dict entries are passed over."""
    model: type[BaseModel] | None = Settings
    sections: dict[str, type[BaseModel]] = {
        "labourers": LabourerSettings,
        "task_config": TaskConfig,
        "dynamo_db_config": DynamoDbConfig,
        "job_schema": JobSchema,
        "job_schema_variants": JobSchema,
        "scheduled_jobs": ScheduledJob,
        "stored_config": StoredConfig,
        "health_metrics": HealthMetric,
        "ecology_config": EcologyConfig,
        "meta_handler_config": MetaHandlerConfig,
        "notices": NoticesConfig,
        "sns_config": SnsConfig,
    }
    for step in steps:
        in_history = model is MetaHandlerConfig and step == sosw_keys.TABLE
        model = MetaTableConfig if in_history else sections.get(step, model)
    return model


#: The keys that our settings know, for what reads configurations of sosw.
KNOWN_KEYS = sosw_keys.Keys(
    section=frozenset(Settings.model_fields),
    task_config=frozenset(TaskConfig.model_fields),
    dynamo_db_config=frozenset(DynamoDbConfig.model_fields),
    labourer=frozenset(LabourerSettings.model_fields),
)
