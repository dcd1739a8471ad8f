"""The settings of labourers, `labourers`, and what they come to where every value is stated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator

from sosw_celery.config import sosw_keys
from sosw_celery.config.base import Section, place_of_class
from sosw_celery.config.health import HealthMetric
from sosw_celery.core.health import Metric
from sosw_celery.core.rates import Rate, parse_rate
from sosw_celery.core.tasks.retrying import RetryPolicy
from sosw_celery.delays import LONGEST_DELAY_S
from sosw_celery.errors import ConfigError
from sosw_celery.names import NAME, UNRESERVED, can_name, is_reserved

__all__ = ["Labourer", "LabourerSettings", "problems_of_lambdas", "problems_of_names"]

T = TypeVar("T")

KEY = f"{sosw_keys.ROOT}.labourers"

#: Seconds that a labourer may take to be made ready for a task, however short its tasks are.
READY_S = 300.0


class LabourerSettings(Section):
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
    worker: Annotated[str, place_of_class("my_module:Processor")] | None = None
    #: Replaces values of the DEFAULT_CONFIG of its class and of the stored configuration.
    custom_config: dict[str, Any] = Field(default_factory=dict)
    #: Who writes to the tasks table for its attempts: its workers themselves (`direct`), or the essentials, for workers
    #: that have no permission to (`assistant`).
    close_through: Literal["direct", "assistant"] = "direct"
    #: Metrics of its health: a name that you choose -> the metric.
    health_metrics: dict[str, HealthMetric] = Field(default_factory=dict)

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

    def resolved(
        self, labourer_id: str, *, slots: int, retry_policy: RetryPolicy, health_metrics: tuple[Metric, ...]
    ) -> Labourer:
        """Return the labourer with every value stated.

        Parameters:
            slots, retry_policy: Of the section, for what the labourer does not state.
        """
        return Labourer(
            id=labourer_id,
            slots=_first(self.max_simultaneous_invocations, slots),
            rate=None if self.rate_limit is None else replace(parse_rate(self.rate_limit), at_once=self.rate_burst),
            duration_s=self.duration,
            cooldown_s=self.cooldown,
            retry_policy=RetryPolicy(
                max_attempts=_first(self.max_attempts, retry_policy.max_attempts),
                backoff_s=_first(self.retry_backoff, retry_policy.backoff_s),
                backoff_max_s=_first(self.retry_backoff_max, retry_policy.backoff_max_s),
                jitter=_first(self.retry_jitter, retry_policy.jitter),
            ),
            health_metrics=health_metrics,
            through_assistant=self.close_through == "assistant",
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


def problems_of_names(labourers: Mapping[str, LabourerSettings]) -> Iterator[ConfigError]:
    """Yield names that no labourer may have, and bursts of labourers without a rate."""
    for name, labourer in labourers.items():
        if labourer.rate_burst is not None and labourer.rate_limit is None:
            yield ConfigError(f"{KEY}.{name}.rate_burst", labourer.rate_burst, "a rate_limit beside it")
        if not can_name(name):
            yield ConfigError(KEY, name, f"names of {NAME}")
        elif is_reserved(name):
            yield ConfigError(KEY, name, UNRESERVED)


def problems_of_lambdas(labourers: Mapping[str, LabourerSettings]) -> Iterator[ConfigError]:
    """Yield labourers that are to be Lambda functions and do not say which, or are to be something else as well."""
    for name, labourer in labourers.items():
        if labourer.invoke == "lambda" and not labourer.arn:
            yield ConfigError(f"{KEY}.{name}.arn", labourer.arn, "the ARN or name of the Lambda function to invoke")
        if labourer.invoke == "lambda" and labourer.worker is not None:
            yield ConfigError(
                f"{KEY}.{name}.worker", labourer.worker, "no class: its tasks are run by the Lambda function"
            )


def _first(own: T | None, common: T) -> T:
    return common if own is None else own
