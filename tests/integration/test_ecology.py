"""Metrics from real servers, and what they do to real workers."""

from __future__ import annotations

import itertools
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sosw_celery.clock import now
from sosw_celery.config.health import EcologyConfig
from sosw_celery.config.settings import load_settings
from sosw_celery.core.health import EcoStatus
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.services.ecology import LOOK_S
from sosw_celery.stores.aws.metric_sources import CloudWatch, Source, ask_prometheus, sources_from
from tests.integration.cluster import Cluster

# ---- CloudWatch


@pytest.fixture(scope="module")
def cloudwatch_endpoint() -> Iterator[str]:
    """The address of a CloudWatch (moto's)."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def cloudwatch(cloudwatch_endpoint: str) -> Source:
    """The source, as an orchestrator makes it."""
    config = EcologyConfig(cloudwatch_endpoint=cloudwatch_endpoint)
    return sources_from(config, region_name="eu-west-1", clock=now)["cloudwatch"]


DIMENSIONS = [{"Name": "DBInstanceIdentifier", "Value": "db"}]


def put(endpoint: str, namespace: str, values: list[float], age_s: float = 5) -> None:
    """Put datapoints, the last one of `age_s` ago, each in a period of 60 s of its own."""
    last = datetime.now(timezone.utc) - timedelta(seconds=age_s)
    client = boto3.client("cloudwatch", endpoint_url=endpoint, region_name="eu-west-1")
    for periods, value in enumerate(reversed(values)):
        at = last - timedelta(seconds=61 * periods)
        data = {"MetricName": "CPUUtilization", "Dimensions": DIMENSIONS, "Value": value, "Timestamp": at}
        client.put_metric_data(Namespace=namespace, MetricData=[data])
    client.close()


def details(namespace: str, **values: Any) -> dict[str, Any]:
    """The details of a metric as sosw's documents have them, complete."""
    stated = {"Name": "CPUUtilization", "Namespace": namespace, "Dimensions": DIMENSIONS, **values}
    metric = {"details": stated, "feelings": {4: 25, 3: 50}, "feeling_comparison_operator": "<="}
    settings = load_settings({"labourers": {"resize": {"health_metrics": {"m": metric}}}})
    return dict(settings.labourer("resize").health_metrics[0].details)


@pytest.mark.parametrize(
    ("statistic", "value"), [("Average", 20), ("Maximum", 40), ("Minimum", 5), ("Sum", 60), ("SampleCount", 3)]
)
def test_datapoints_of_cloudwatch_become_one_number(
    cloudwatch: Source, cloudwatch_endpoint: str, unique: str, statistic: str, value: float
) -> None:
    """The mean, the maximum or the minimum of the time slice as in sosw; and what adds up is added up."""
    put(cloudwatch_endpoint, unique, [15, 5, 40])
    put(cloudwatch_endpoint, unique, [1000], age_s=400)  # before the time slice of 300 s
    assert cloudwatch(details(unique, Statistics=[statistic]), 5) == pytest.approx(value)


def test_no_datapoint_is_a_failure(cloudwatch: Source, cloudwatch_endpoint: str, unique: str) -> None:
    """Nothing is known then; in sosw it stops the orchestrator."""
    put(cloudwatch_endpoint, unique, [10], age_s=100)
    with pytest.raises(StoreError, match="no datapoint in the last 30 s"):
        cloudwatch(details(unique, MetricAggregationTimeSlice=30), 5)


def test_a_cloudwatch_that_is_away_or_slow_gives_up_in_its_time(unused_port: int) -> None:
    """Nobody there, or somebody who never answers: an error within seconds."""
    with Silent() as silent:
        for port in (unused_port, silent):
            source = CloudWatch(endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-west-1", clock=now)
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                source(details("any"), 0.3)
            assert time.monotonic() - started < 5


# ---- Prometheus


class Prometheus:
    """A small HTTP server that speaks the query API of Prometheus; its answer is what the test says."""

    def __init__(self) -> None:
        self.value: Any = "10"
        self.answer: Any = None
        self.status = 200
        self.asked: list[dict[str, list[str]]] = []
        self.headers: list[Any] = []
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answer(self)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Prometheus:
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def metric(self, **values: Any) -> dict[str, Any]:
        """A metric of this server: 4 up to 25, 3 up to 50, else bad; read five times a second."""
        return {
            "source": "prometheus",
            "details": {"url": self.url, "query": "load"},
            "feelings": {4: 25, 3: 50},
            "feeling_comparison_operator": "<=",
            "refresh_s": 0.2,
            "timeout_s": 1,
            **values,
        }

    def _answer(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        url = urllib.parse.urlsplit(request.path)
        assert url.path == "/api/v1/query"
        self.asked.append(urllib.parse.parse_qs(url.query))
        self.headers.append(request.headers)
        sample = {"metric": {"__name__": "load"}, "value": [time.time(), self.value]}
        answer = {"status": "success", "data": {"resultType": "vector", "result": [sample]}}
        return self.status, json.dumps(self.answer or answer).encode()


class Silent:
    """A server that accepts connections and never answers."""

    def __enter__(self) -> int:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # accepts; nobody serves
        return self._server.server_port

    def __exit__(self, *_: object) -> None:
        self._server.server_close()


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with Silent() as port:
        return port


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    """A Prometheus whose one metric stands at 10."""
    with Prometheus() as server:
        yield server


def vector(*values: str) -> dict[str, Any]:
    """An answer with these samples."""
    result = [{"metric": {"job": str(index)}, "value": [1.5, value]} for index, value in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_prometheus_is_asked_for_one_number(prometheus: Prometheus) -> None:
    """The query comes as it was written, with the time it has and the headers that are configured."""
    query = 'avg(rate(x{job="a & b"}[5m]))'
    asked = {"url": f"{prometheus.url}/", "query": query, "headers": {"Authorization": "Bearer token"}}
    assert ask_prometheus(asked, 2) == 10
    assert prometheus.asked == [{"query": [query], "timeout": ["2s"]}]
    assert prometheus.headers[0]["Authorization"] == "Bearer token"
    prometheus.answer = {"status": "success", "data": {"resultType": "scalar", "result": [1.5, "0.25"]}}
    assert ask_prometheus(asked, 2) == 0.25


@pytest.mark.parametrize(
    ("answer", "status", "problem"),
    [
        (vector(), 200, "got 0 of them"),
        (vector("1", "2"), 200, "got 2 of them"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, 200, "got matrix"),
        ({"status": "error", "error": "parse error"}, 200, "parse error"),
        ({"status": "error", "error": "parse error"}, 422, "HTTP 422"),
        ({"up": 1}, 200, "cannot be read"),
        ([1], 200, "cannot be read"),
        (vector("many"), 200, "cannot be read"),
    ],
)
def test_an_answer_that_is_not_one_number_is_a_failure(
    prometheus: Prometheus, answer: Any, status: int, problem: str
) -> None:
    """No element, several, an error, or something else altogether: the error says which."""
    prometheus.answer, prometheus.status = answer, status
    with pytest.raises(StoreError, match=problem):
        ask_prometheus({"url": prometheus.url, "query": "load"}, 2)


def test_a_prometheus_that_is_away_or_slow_gives_up_in_its_time(unused_port: int) -> None:
    """Nobody there, or somebody who never answers: an error in the time it has."""
    with Silent() as silent:
        for port in (unused_port, silent):
            with pytest.raises(StoreUnavailable):
                ask_prometheus({"url": f"http://127.0.0.1:{port}", "query": "load"}, 0.2)


# ---- real workers


def job(tasks: int, seconds: float) -> dict[str, Any]:
    """A job with this many tasks, each of which runs for some seconds."""
    groups = {f"g{number}": {"seconds": seconds} for number in range(tasks)}
    return {"lambda_name": "note", "isolate_groups": True, "groups": groups}


@pytest.fixture
def make_note(make_cluster: Callable[..., Cluster]) -> Callable[..., Cluster]:
    """Starts a cluster whose labourer `note` has four slots and these metrics."""

    def make(metrics: dict[str, Any], slots: int = 4, **section: Any) -> Cluster:
        note = {"max_simultaneous_invocations": slots, "duration": 60, "health_metrics": metrics}
        cluster = make_cluster(labourers={"note": note}, **section)
        cluster.worker()
        cluster.beat()
        cluster.worker("note", "-c", "4")
        return cluster

    return make


@pytest.mark.slow
def test_a_bad_metric_holds_new_invocations_back_and_recovery_lets_them_go_on(
    make_note: Callable[..., Cluster], prometheus: Prometheus
) -> None:
    """Running tasks finish, none is started while the metric is bad, all are done after it recovered."""
    cluster = make_note({"load": prometheus.metric()})
    submitted = cluster.submit(job(50, 0.4))
    cluster.wait_for(lambda: len(cluster.spans()) >= 6, 30, "tasks to run")

    prometheus.value = "90"
    ecology = cluster.services.ecology
    cluster.wait_for(lambda: ecology.health_of("note").status == EcoStatus.BAD, 10, "the metric to be felt")
    felt_by_all = time.monotonic() + 2 * LOOK_S
    cluster.wait_for(
        lambda: time.monotonic() > felt_by_all and all(span.end for span in cluster.spans()), 10, "running tasks to end"
    )
    held = cluster.spans()
    readings = len(prometheus.asked)
    cluster.wait_for(lambda: len(prometheus.asked) >= readings + 10, 20, "more readings")
    assert len(cluster.spans()) == len(held) < 50
    assert cluster.services.slots.look("note").running == 0

    prometheus.value = "10"
    assert cluster.ended(submitted).completed == 50
    assert {task.attempts for task in cluster.closed("note")} == {1}
    assert cluster.most_at_once() == 4


@pytest.mark.slow
def test_a_moderate_metric_leaves_its_share_of_the_cap(
    make_note: Callable[..., Cluster], prometheus: Prometheus
) -> None:
    """At status 3 three of four slots are used; never more, never less for want of anything."""
    prometheus.value = "40"
    cluster = make_note({"load": prometheus.metric()})
    submitted = cluster.submit(job(24, 0.3))
    assert cluster.ended(submitted).completed == 24
    assert cluster.most_at_once() == 3


@pytest.mark.slow
def test_a_metric_at_the_edge_does_not_make_the_cap_flap(
    make_note: Callable[..., Cluster], prometheus: Prometheus
) -> None:
    """A metric that crosses the threshold with every reading costs one change, not one each time."""
    cluster = make_note({"load": prometheus.metric()})
    statuses = []

    def look() -> int:
        prometheus.value = "24.9" if len(prometheus.asked) % 2 else "25.1"
        statuses.append(cluster.services.ecology.health_of("note").status)
        return len(prometheus.asked)

    cluster.wait_for(lambda: look() >= 15, 30, "fifteen readings")
    known = [status for status in statuses if status is not None]
    changes = [pair for pair in itertools.pairwise(known) if pair[0] != pair[1]]
    assert len(changes) <= 1
    assert known[-1] == EcoStatus.GOOD


@pytest.mark.slow
def test_sources_that_hang_or_fail_do_not_stop_the_queue(make_note: Callable[..., Cluster], unused_port: int) -> None:
    """Whether they never answer, are away or raise: tasks run with the fallback status, and the log says why."""
    common = {"feelings": {4: 25}, "feeling_comparison_operator": "<=", "timeout_s": 0.5, "refresh_s": 0.5}
    with Silent() as silent:
        metrics = {
            "slow": {**common, "source": "callable", "details": {"function": "cluster_metrics:hang"}},
            "raises": {**common, "source": "callable", "details": {"function": "cluster_metrics:fail"}},
            "silent": {
                **common,
                "source": "prometheus",
                "details": {"url": f"http://127.0.0.1:{silent}", "query": "load"},
            },
            "away": {
                **common,
                "source": "prometheus",
                "details": {"url": f"http://127.0.0.1:{unused_port}", "query": "load"},
            },
        }
        cluster = make_note(metrics, ecology_config={"fallback_status": 3})
        assert cluster.ended(cluster.submit(job(12, 0.2))).completed == 12
    assert cluster.most_at_once() == 3
    logs = cluster.tails() + "".join(map(cluster.log, cluster.processes))
    for name in metrics:
        assert f"ecology.not_read metric={name}" in logs
    told = {one.name: one for one in cluster.services.ecology.health_of("note").metrics}
    assert all(one.fallback and one.problem for one in told.values())


@pytest.mark.slow
def test_one_orchestrator_asks_for_all(make_note: Callable[..., Cluster], prometheus: Prometheus) -> None:
    """However many orchestrators make passes, a source is asked once a period."""
    cluster = make_note({"load": prometheus.metric(refresh_s=1)})
    for _ in range(2):
        cluster.worker("sosw_orchestrator", "-c", "2")
    started, before = time.monotonic(), len(prometheus.asked)
    assert cluster.ended(cluster.submit(job(40, 0.2))).completed == 40
    periods = time.monotonic() - started
    assert len(prometheus.asked) - before <= periods + 1


@pytest.mark.slow
def test_sosws_metric_decides_with_real_workers(
    make_note: Callable[..., Cluster], cloudwatch_endpoint: str, unique: str
) -> None:
    """The metric of sosw's documents, pasted: with the database at 40 % three quarters of the slots are used."""
    put(cloudwatch_endpoint, unique, [30, 50])
    metric = {
        "details": {"Name": "CPUUtilization", "Namespace": unique, "Period": 60, "Dimensions": DIMENSIONS},
        "feelings": {3: 50, 4: 25},
        "feeling_comparison_operator": "<=",
    }
    cluster = make_note({"SomeDBCPU": metric}, ecology_config={"cloudwatch_endpoint": cloudwatch_endpoint})
    assert cluster.ended(cluster.submit(job(12, 0.2))).completed == 12
    assert cluster.most_at_once() == 3
    (told,) = cluster.services.ecology.health_of("note").metrics
    assert (told.value, told.status) == (40, EcoStatus.GOOD)
