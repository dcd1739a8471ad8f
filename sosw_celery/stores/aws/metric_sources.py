"""The sources of metrics: each is asked for one number.

A source is a function `(details, timeout_s) -> number`. It may be called from any thread, and should give up after
`timeout_s`; who asks does not wait longer anyway. It raises `StoreError` with what is wrong (a function of a user's may
raise anything).

| name         | asks                           | details                                                            |
| ------------ | ------------------------------ | ------------------------------------------------------------------ |
| `cloudwatch` | AWS CloudWatch                 | arguments of GetMetricStatistics, and `MetricAggregationTimeSlice` |
| `prometheus` | Prometheus' HTTP API           | `url`, `query`, `headers`                                          |
| `callable`   | a Python function              | `function`, `arguments`                                            |
| one's own    | a function named in `sources`  | whatever it reads                                                  |
"""

from __future__ import annotations

import json
import math
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from statistics import fmean
from typing import Any

import boto3
from botocore.config import Config

from sosw_celery.clock import Clock
from sosw_celery.config.health import CALLABLE, CLOUDWATCH, PROMETHEUS, EcologyConfig
from sosw_celery.config.places import found_at
from sosw_celery.core.exact import EXACT
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.aws_errors import translated
from sosw_celery.text import excerpt

__all__ = ["CloudWatch", "Source", "ask_function", "ask_prometheus", "number", "sources_from"]

Source = Callable[[Mapping[str, Any], float], Any]

#: How the datapoints of the time slice become one number; those of sosw, and the two that add up.
COMBINE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "Average": fmean,
    "Maximum": max,
    "Minimum": min,
    "SampleCount": math.fsum,
    "Sum": math.fsum,
}

#: Bytes of an answer of Prometheus that are read: one number needs a few hundred.
ANSWER_BYTES = 1_000_000

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def sources_from(config: EcologyConfig, *, region_name: str | None, clock: Clock) -> dict[str, Source]:
    """Return every source by its name. Nothing is asked, and no client is made yet.

    Raises:
        ConfigError: A source of one's own cannot be imported.
    """
    own = {name: _imported(f"sosw.ecology_config.sources.{name}", source) for name, source in config.sources.items()}
    cloudwatch = CloudWatch(endpoint_url=config.cloudwatch_endpoint, region_name=region_name, clock=clock)
    return {CLOUDWATCH: cloudwatch, PROMETHEUS: ask_prometheus, CALLABLE: ask_function, **own}


def number(value: object) -> float:
    """Return what a source answered as a number.

    Raises:
        StoreError: It is none, or NaN.
    """
    if isinstance(value, (int, float, Decimal)) and not math.isnan(value):
        return float(value)
    raise StoreError("metric", "reading its answer", f"expected a number, got {excerpt(value)}")


class CloudWatch:
    """Asks AWS CloudWatch (GetMetricStatistics). The client is made by the first question."""

    def __init__(self, *, endpoint_url: str | None, region_name: str | None, clock: Clock) -> None:
        self._endpoint_url = endpoint_url
        self._region_name = region_name
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: dict[float, Any] = {}

    def __call__(self, details: Mapping[str, Any], timeout_s: float) -> float:
        """Return the metric over the last `MetricAggregationTimeSlice` seconds.

        The datapoints of that time become one number: their mean, maximum or minimum, or their total for `Sum` and
        `SampleCount`.

        Raises:
            StoreUnavailable: CloudWatch did not answer.
            StoreError: It refused, or has no datapoint of that time.
        """
        slice_s = float(details["MetricAggregationTimeSlice"])
        end = EPOCH + timedelta(microseconds=int(EXACT.scaleb(self._clock(), 6)))
        query = {key: value for key, value in details.items() if key != "MetricAggregationTimeSlice"}
        statistic = details["Statistics"][0]
        with translated("cloudwatch", "GetMetricStatistics"):
            answer = self._client(timeout_s).get_metric_statistics(
                **query, StartTime=end - timedelta(seconds=slice_s), EndTime=end
            )
        points = [float(point[statistic]) for point in answer.get("Datapoints", [])]
        if not points:
            raise StoreError("cloudwatch", "GetMetricStatistics", f"no datapoint in the last {slice_s:g} s")
        return COMBINE[statistic](points)

    def _client(self, timeout_s: float) -> Any:
        with self._lock:
            if timeout_s not in self._clients:
                config = Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 2})
                # A session of its own: the default one may be in use by another thread right now.
                self._clients[timeout_s] = boto3.session.Session().client(
                    "cloudwatch", endpoint_url=self._endpoint_url, region_name=self._region_name, config=config
                )
            return self._clients[timeout_s]


def ask_prometheus(details: Mapping[str, Any], timeout_s: float) -> float:
    """Return what a query of Prometheus' HTTP API gives now: a scalar, or a vector of one element.

    Parameters:
        details: `url` of the server (`http://prometheus:9090`), `query` in PromQL, and `headers` where it wants some.

    Raises:
        StoreUnavailable: Prometheus did not answer.
        StoreError: It refused the query, or the query gives no element or several.
    """
    asked = urllib.parse.urlencode({"query": details["query"], "timeout": f"{timeout_s:g}s"})
    request = urllib.request.Request(
        f"{str(details['url']).rstrip('/')}/api/v1/query?{asked}", headers=dict(details.get("headers") or {})
    )
    try:
        # The configuration allows http and https alone.
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # nosec B310
            text = answer.read(ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            raise StoreError("prometheus", "query", f"HTTP {error.code} {error.reason}") from error
    except OSError as error:  # no connection, time-outs; URLError is one
        raise StoreUnavailable("prometheus", "query", excerpt(getattr(error, "reason", error))) from error
    return _prometheus_value(text)


def ask_function(details: Mapping[str, Any], timeout_s: float) -> Any:
    """Return what a Python function returns.

    Parameters:
        details: `function`, itself or its dotted path `module:function`, and `arguments`, a dict for its keywords.
    """
    function = _imported("details.function", details["function"])
    return function(**details.get("arguments") or {})


def _prometheus_value(text: bytes) -> float:
    try:
        answer = json.loads(text)
        if answer["status"] != "success":
            raise StoreError("prometheus", "query", str(answer.get("error", answer["status"])))
        data = answer["data"]
        if data["resultType"] == "scalar":
            return float(data["result"][1])
        if data["resultType"] == "vector" and len(data["result"]) == 1:
            return float(data["result"][0]["value"][1])
        found = f"{len(data['result'])} of them" if data["resultType"] == "vector" else data["resultType"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise StoreError("prometheus", "query", f"an answer that cannot be read: {error!r}") from error
    raise StoreError("prometheus", "query", f"expected a scalar or a vector of one element, got {found}")


def _imported(key: str, value: Callable[..., Any] | str) -> Callable[..., Any]:
    if callable(value):
        return value
    function: Callable[..., Any] = found_at(key, value, "a function that can be imported, as module:function")
    return function
