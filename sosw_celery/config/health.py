"""The settings of health: `health_metrics` of a labourer, and `ecology_config`. Both can be pasted from sosw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from sosw_celery.config.base import HttpAddress, Section
from sosw_celery.core.health import COEFFICIENTS, EcoStatus, Feelings, Metric, parse_feelings, parse_operator
from sosw_celery.errors import ConfigError
from sosw_celery.text import did_you_mean

__all__ = ["EcologyConfig", "HealthMetric", "coefficients"]

CLOUDWATCH, PROMETHEUS, CALLABLE = "cloudwatch", "prometheus", "callable"
BUILT_IN = (CLOUDWATCH, PROMETHEUS, CALLABLE)

#: sosw's; what is stated is merged over it.
DEFAULT_METRIC_VALUES: Mapping[str, Any] = {
    "Period": 60,
    "Statistics": ["Average"],
    "MetricAggregationTimeSlice": 300,
}
STATISTICS = ("Average", "Maximum", "Minimum", "SampleCount", "Sum")

Function = Callable[..., Any] | str


class HealthMetric(Section):
    """One metric of a labourer and how it is felt about."""

    #: Where it is read: `cloudwatch`, `prometheus`, `callable`, or a name in `sources` of `ecology_config`.
    source: str = CLOUDWATCH
    #: What is read. CloudWatch: arguments of GetMetricStatistics, and `MetricAggregationTimeSlice` in seconds.
    #: Prometheus: `url`, `query`, `headers`. Callable: `function`, `arguments`.
    details: dict[str, Any]
    #: Eco status 0 to 4 -> the value that the metric is compared with.
    feelings: dict[Any, Any]
    #: How it is compared: `<=`, `<`, `>=`, `>`, `==`, `!=`, or a name of Python's module `operator`: `le`, `lt`, `ge`,
    #: `gt`, `eq`, `ne`.
    feeling_comparison_operator: str
    #: How far beyond a value of `feelings` the metric has to be before the status gets better; None: 5 % of the value.
    feeling_margin: float | None = Field(None, ge=0)
    #: Seconds between two readings; None takes `Period`.
    refresh_s: float | None = Field(None, ge=0.1, le=86_400)
    #: Seconds that the source has to answer; None takes that of `ecology_config`.
    timeout_s: float | None = Field(None, gt=0, le=300)
    #: Eco status when there is no reading; None takes that of `ecology_config`.
    fallback_status: int | None = Field(None, ge=0, le=4)


class EcologyConfig(Section):
    """How health is found out (sosw's `ecology_config`)."""

    #: A key of sosw without effect.
    init_clients: tuple[str, ...] = ()
    #: Values that the details of a CloudWatch metric do not state. `Period` holds for every source.
    default_metric_values: dict[str, Any] = Field(default_factory=dict)
    #: Further sources: name -> function `(details, timeout_s) -> number`, or its dotted path `module:function`.
    sources: dict[str, Function] = Field(default_factory=dict)
    #: Seconds that a source has to answer.
    timeout_s: float = Field(5.0, gt=0, le=300)
    #: Seconds for which a reading still counts after the next one was due.
    grace_s: float = Field(120.0, ge=0, le=86_400)
    #: Eco status when there is no reading that counts.
    fallback_status: int = Field(4, ge=0, le=4)
    #: For an engine other than AWS's own: `http://127.0.0.1:5000`.
    cloudwatch_endpoint: HttpAddress | None = None

    def metric(self, key: str, name: str, stated: HealthMetric) -> Metric:
        """Return a labourer's metric with every value stated.

        Parameters:
            key: Where it stands, as a dotted path.

        Raises:
            ConfigError: It has no such source, or the source cannot be asked like this, or its feelings mean nothing.
        """
        known = (*BUILT_IN, *self.sources)
        if stated.source not in known:
            expected = f"one of {', '.join(known)}{did_you_mean(stated.source, known)}"
            raise ConfigError(f"{key}.source", stated.source, expected)
        defaults = {**DEFAULT_METRIC_VALUES, **self.default_metric_values}
        details = _details_of(f"{key}.details", stated, defaults)
        period_s = _seconds(f"{key}.details", "Period", {**defaults, **details})
        fallback = self.fallback_status if stated.fallback_status is None else stated.fallback_status
        return Metric(
            name=name,
            source=stated.source,
            details=details,
            feelings=_feelings_of(key, stated),
            refresh_s=period_s if stated.refresh_s is None else stated.refresh_s,
            timeout_s=self.timeout_s if stated.timeout_s is None else stated.timeout_s,
            grace_s=self.grace_s,
            fallback=EcoStatus(fallback),
        )


def coefficients(stated: Mapping[EcoStatus, float]) -> dict[EcoStatus, float]:
    """Return the share of the cap for every eco status; statuses that are not stated keep their default."""
    return {**COEFFICIENTS, **stated}


def _feelings_of(key: str, stated: HealthMetric) -> Feelings:
    comparison = stated.feeling_comparison_operator
    try:
        parse_operator(comparison)
    except ValueError as problem:
        raise ConfigError(f"{key}.feeling_comparison_operator", comparison, str(problem)) from None
    try:
        return parse_feelings(stated.feelings, comparison, stated.feeling_margin)
    except ValueError as problem:
        raise ConfigError(f"{key}.feelings", stated.feelings, str(problem)) from None


def _details_of(key: str, stated: HealthMetric, defaults: Mapping[str, Any]) -> dict[str, Any]:
    if stated.source == CLOUDWATCH:
        return _cloudwatch_details(key, stated.details, defaults)
    if stated.source == PROMETHEUS:
        _check_prometheus(key, stated.details)
    elif stated.source == CALLABLE:
        _check_callable(key, stated.details)
    return stated.details


def _cloudwatch_details(key: str, stated: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for CloudWatch; `Name`, as sosw's documents have it, is `MetricName`."""
    details = {**defaults, **stated}
    if "Name" in details:
        name = details.pop("Name")
        details.setdefault("MetricName", name)
    for needed in ("Namespace", "MetricName"):
        if not isinstance(details.get(needed), str):
            raise ConfigError(f"{key}.{needed}", details.get(needed), "a text")
    statistics = details["Statistics"]
    if not isinstance(statistics, (list, tuple)) or len(statistics) != 1 or statistics[0] not in STATISTICS:
        raise ConfigError(f"{key}.Statistics", statistics, f"a list of one of {', '.join(STATISTICS)}")
    _seconds(key, "MetricAggregationTimeSlice", details)
    return details


def _seconds(key: str, name: str, details: Mapping[str, Any]) -> float:
    value = details[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86_400:
        raise ConfigError(f"{key}.{name}", value, "seconds, above 0 and at most a day")
    return float(value)


def _check_prometheus(key: str, details: Mapping[str, Any]) -> None:
    _check_keys(key, details, ("url", "query"), ("headers", "Period"))
    url, query = details["url"], details["query"]
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{key}.url", url, "the server's address, http://... or https://...")
    if not isinstance(query, str):
        raise ConfigError(f"{key}.query", query, "a text in PromQL")
    if not isinstance(details.get("headers", {}), Mapping):
        raise ConfigError(f"{key}.headers", type(details["headers"]), "a dict of texts")


def _check_callable(key: str, details: Mapping[str, Any]) -> None:
    _check_keys(key, details, ("function",), ("arguments", "Period"))
    function = details["function"]
    # One made inside another function, or a lambda, has no name by which other processes could know it.
    named = "<" not in getattr(function, "__qualname__", "<") if callable(function) else ":" in str(function)
    if not named:
        raise ConfigError(f"{key}.function", function, "a module's function, itself or as module:function")
    if not isinstance(details.get("arguments", {}), Mapping):
        raise ConfigError(f"{key}.arguments", details["arguments"], "a dict of keyword arguments")


def _check_keys(key: str, details: Mapping[str, Any], needed: tuple[str, ...], others: tuple[str, ...]) -> None:
    if not set(needed) <= details.keys() <= {*needed, *others}:
        raise ConfigError(key, sorted(details), f"{', '.join(needed)}, and perhaps {', '.join(others)}")
