"""The `sosw` section of `celeryconfig.py` as frozen values, checked when it is read.

The keys are those of sosw, so that its configuration can be pasted in; keys of our own have a unit in their name where
a type cannot hold one (`lease_s`). An unknown key is refused with a suggestion, a wrong value with its dotted path and
what is expected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import urlsplit

import redis
from pydantic import Field, ValidationError, field_validator, model_validator

from sosw_celery.config import sosw_keys
from sosw_celery.config.alerts import NoticesConfig, SnsConfig
from sosw_celery.config.base import HttpAddress, Section, ZoneName, place_of_class
from sosw_celery.config.health import EcologyConfig, coefficients
from sosw_celery.config.history import MetaHandlerConfig
from sosw_celery.config.jobs import JobSchema, ScheduledJob
from sosw_celery.config.labourers import Labourer, LabourerSettings, problems_of_lambdas, problems_of_names
from sosw_celery.config.masking import masked
from sosw_celery.config.problems import problems_in
from sosw_celery.config.stored_config import StoredConfig
from sosw_celery.config.tables import DynamoDbConfig, TaskConfig, problems_of_rows, problems_of_running
from sosw_celery.core.health import EcoStatus, Metric
from sosw_celery.core.redis_address import redis_address
from sosw_celery.core.tasks.retrying import RetryPolicy
from sosw_celery.delays import LONGEST_DELAY_S
from sosw_celery.errors import ConfigError
from sosw_celery.text import kind_of

__all__ = ["KNOWN_KEYS", "Reading", "Settings", "greenfield_delta", "load_settings", "read_settings"]

logger = logging.getLogger(__name__)

SECTION = sosw_keys.ROOT

#: Share of a lease's time for which it is relied on.
PATIENCE = 0.8
#: Share of `part_lease_s`, and seconds at most: before its end, in which the owner of a part begins no write, and after
#: it, in which nobody takes the part over. Long enough for a request that is on its way.
PART_MARGIN, LONGEST_MARGIN_S = 0.2, 20.0


class Settings(Section):
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
    scheduler_class: Annotated[str, place_of_class("my_module:OurScheduler")] | None = None
    #: Zone that decides what "today" is, and the wall clock of crontabs, unless a job or an entry names its own.
    timezone: ZoneName = "UTC"

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
    dynamodb_endpoint: HttpAddress | None = None
    #: For an S3 other than AWS's own.
    s3_endpoint: HttpAddress | None = None
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
    line_s: float = Field(3.0, ge=0, le=60)
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

    @field_validator("redis_url")
    @classmethod
    def _redis_can_be_asked(cls, value: str) -> str:
        address = redis_address(value)
        try:
            redis.ConnectionPool.from_url(address).make_connection()  # connects to nothing yet
        except (ValueError, TypeError, redis.RedisError) as problem:
            raise ValueError(f"an address whose options redis-py takes ({problem})") from problem
        return address

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
        return self.labourers.get(labourer_id, LabourerSettings()).resolved(
            labourer_id,
            slots=self.max_simultaneous_invocations,
            retry_policy=RetryPolicy(
                max_attempts=self.max_attempts,
                backoff_s=self.retry_backoff,
                backoff_max_s=self.retry_backoff_max,
                jitter=self.retry_jitter,
            ),
            health_metrics=self.health_metrics.get(labourer_id, ()),
        )


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
        # Without what a list says: nobody knows which of its values are passwords.
        found = kind_of(section) if isinstance(section, (list, tuple)) else section
        return Reading(None, (ConfigError(SECTION, found, "a dict of settings"),))
    translation = sosw_keys.translate(section, KNOWN_KEYS)
    problems = list(translation.problems)
    settings = None
    try:
        settings = Settings.model_validate(translation.section)
    except ValidationError as refusal:
        problems += problems_in(refusal, Settings)
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
    yield from problems_of_names(settings.labourers)
    if settings.renew_s * 2 > settings.lease_s:
        expected = "at most half of lease_s, so that one lost renewal loses no lease"
        yield ConfigError(f"{SECTION}.renew_s", settings.renew_s, expected)
    if settings.safety_net_s * 2 > settings.hint_lease_s:
        expected = "at most half of hint_lease_s, so that hints that wait keep their slots"
        yield ConfigError(f"{SECTION}.safety_net_s", settings.safety_net_s, expected)
    if 0 < settings.settle_s <= settings.renew_s:
        expected = "more than renew_s, so that every node reports before slots are granted"
        yield ConfigError(f"{SECTION}.settle_s", settings.settle_s, expected)
    yield from problems_of_running(settings.task_config, settings.labourers)
    yield from problems_of_rows(settings.task_config.dynamo_db_config, settings.labourers)
    yield from problems_of_lambdas(settings.labourers)
    try:
        _ = settings.health_metrics
    except ConfigError as problem:
        yield problem


def greenfield_delta(settings: Settings) -> Decimal:
    """Return the seconds that mark a task as invoked, as the exact number that goes into the table."""
    return Decimal(settings.task_config.greenfield_invocation_delta)


#: The keys that our settings know, for what reads configurations of sosw.
KNOWN_KEYS = sosw_keys.Keys(
    section=frozenset(Settings.model_fields),
    task_config=frozenset(TaskConfig.model_fields),
    dynamo_db_config=frozenset(DynamoDbConfig.model_fields),
    labourer=frozenset(LabourerSettings.model_fields),
)
