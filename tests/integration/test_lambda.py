"""Lambda functions as labourers: real worker processes, no code of the user, and a server that speaks Lambda's API."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from tests.harness.overlap import most_at_once
from tests.integration.cluster import Cluster

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:resize:prod"
LABOURERS = {
    "resize": {
        "invoke": "lambda",
        "arn": ARN,
        "max_simultaneous_invocations": 3,
        "duration": 5,
        "retry_backoff": 0.1,
        "retry_backoff_max": 0.5,
    }
}
SHORT = {"lease_s": 3, "renew_s": 0.5, "settle_s": 1, "max_attempts": 3}


class Throttled(Exception):
    """Raised by a function to have the API refuse the request instead."""


@dataclass
class Invocation:
    """One run of a function, monotonic seconds."""

    function: str
    event: dict[str, Any]
    start: float
    end: float = 0.0


class LambdaApi:
    """A server that speaks Lambda's Invoke API while the block runs.

    `invocations` are the runs that were begun, `refused` the events that were throttled.
    """

    def __init__(self, functions: dict[str, Callable[[dict[str, Any]], Any]]) -> None:
        self.functions = functions
        self.invocations: list[Invocation] = []
        self.refused: list[dict[str, Any]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LambdaApi:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def most_at_once(self) -> int:
        """Return how many runs overlapped at the worst instant."""
        return most_at_once((run.start, run.end or run.start) for run in self.invocations)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: LambdaApi


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, version, _, function, _ = unquote(self.path).split("/")
        assert version == "2015-03-31"
        assert self.headers["X-Amz-Invocation-Type"] == "RequestResponse"
        api = self.server.api
        run = Invocation(function, event, time.monotonic())
        api.invocations.append(run)
        try:
            answer = api.functions[function.split(":")[6]](event)
        except Throttled:
            api.invocations.remove(run)
            api.refused.append(event)
            self._answer(429, {"Message": "Rate Exceeded."}, {"x-amzn-ErrorType": "TooManyRequestsException"})
        except LookupError as error:
            run.end = time.monotonic()
            told = {"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": []}
            self._answer(200, told, {"X-Amz-Function-Error": "Unhandled"})
        else:
            run.end = time.monotonic()
            self._answer(200, answer, {})

    def _answer(self, status: int, answer: Any, headers: dict[str, str]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"x-amzn-RequestId": "request-1", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Resize:
    """The function: does what its event says, in its first attempts."""

    def __init__(self) -> None:
        self.throttles: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, event: dict[str, Any]) -> Any:
        """Answer, fail, hang, or be throttled."""
        manner, first = event.get("manner", ""), event["attempts"] == 1
        if manner == "throttle":
            with self._lock:
                self.throttles[event["task_id"]] += 1
                if self.throttles[event["task_id"]] == 1:
                    raise Throttled
        if (manner == "fail" and first) or manner == "always":
            raise KeyError("image")
        if manner == "hang" and first:
            time.sleep(4)
        time.sleep(event.get("seconds", 0))
        return {"size": event["size"], "nested": {"ok": True}} if "size" in event else "done"


@pytest.fixture
def api() -> Iterator[LambdaApi]:
    """Lambda, with the function `resize`."""
    with LambdaApi({"resize": Resize()}) as api:
        yield api


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster], api: LambdaApi) -> Cluster:
    """A cluster with the essentials and beat running."""
    cluster = make_cluster(labourers=LABOURERS, **SHORT)
    cluster.environment["AWS_ENDPOINT_URL_LAMBDA"] = api.endpoint
    cluster.worker()
    cluster.beat()
    return cluster


def job(groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a job with one task for each group."""
    return {"lambda_name": "resize", "isolate_groups": True, "groups": groups}


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_each_task_invokes_the_function_once_and_keeps_its_answer(cluster: Cluster, api: LambdaApi, pool: str) -> None:
    """A dict adds to the results, anything else is `result_value`; never more runs at once than slots."""
    cluster.worker("resize", "-c", "6", "-P", pool)
    groups: dict[str, dict[str, Any]] = {f"g{number}": {"size": number, "seconds": 0.1} for number in range(20)}
    summary = cluster.ended(cluster.submit(job({**groups, "wordless": {}}), job_id="the job"))
    assert (summary.completed, summary.dead) == (21, 0)
    closed = {task.task_id: task for task in cluster.closed("resize")}
    assert sorted(task.extra["result_size"] for task in closed.values() if "result_size" in task.extra) == list(
        range(20)
    )
    assert [task.extra["result_value"] for task in closed.values() if "result_value" in task.extra] == ["done"]
    assert {task.attempts for task in closed.values()} == {1}
    assert Counter(run.event["task_id"] for run in api.invocations) == Counter(dict.fromkeys(closed, 1))
    assert 2 <= api.most_at_once() <= 3
    run = api.invocations[0]
    assert run.function == ARN
    row = closed[run.event["task_id"]]
    assert {name: run.event[name] for name in ("labourer_id", "job_id", "attempts", "created_at")} == {
        "labourer_id": "resize",
        "job_id": "the job",
        "attempts": 1,
        "created_at": float(row.created_at),
    }


@pytest.mark.slow
def test_failures_throttling_and_silence_are_attempts_that_end_as_such(cluster: Cluster, api: LambdaApi) -> None:
    """The row says what the function said; a throttled task waits without a run; a poisoned one is dead."""
    cluster.worker("resize", "-c", "3")
    manners = ("fail", "throttle", "hang", "always")
    summary = cluster.ended(cluster.submit(job({name: {"manner": name, "size": 1} for name in manners})), 90)
    assert (summary.completed, summary.dead) == (3, 1)
    errors = {manner_of(task): task.extra["last_error"] for task in cluster.closed("resize")}
    assert errors == {
        "fail": "LambdaFailed: KeyError: 'image' (request request-1)",
        "throttle": "RetryLater: the Lambda function was not run (TooManyRequestsException: Rate Exceeded.);"
        " again in 0.5 s",
        "hang": "LambdaFailed: TimeoutError: no answer within 3 s; it may still run",
    }
    (dead,) = cluster.closed("resize", status=0)
    assert (dead.attempts, dead.extra["last_error"]) == (3, "LambdaFailed: KeyError: 'image' (request request-1)")
    runs = Counter(run.event["manner"] for run in api.invocations)
    assert runs == {"fail": 2, "throttle": 1, "hang": 2, "always": 3}
    assert len(api.refused) == 1


def manner_of(task: Any) -> str:
    """Return what a task's event asked for."""
    return str(json.loads(task.payload)["manner"])


@pytest.mark.slow
def test_a_function_that_closes_its_task_itself_does_no_harm(cluster: Cluster, api: LambdaApi) -> None:
    """As one does that still tells sosw's WorkerAssistant: the task is completed once, in its one attempt."""
    table, client = cluster.services.tables.tasks, cluster.services.dynamodb

    def close_itself(event: dict[str, Any]) -> dict[str, int]:
        client.update_item(
            TableName=table,
            Key={"task_id": {"S": event["task_id"]}},
            UpdateExpression="SET completed_at = :now, stat_by_itself = :one",
            ConditionExpression="attribute_exists(task_id)",
            ExpressionAttributeValues={":now": {"N": str(int(time.time()))}, ":one": {"N": "1"}},
        )
        time.sleep(event["seconds"])
        return {"size": 1}

    api.functions["resize"] = close_itself
    cluster.worker("resize", "-c", "3", "-P", "threads")
    groups = {f"g{number}": {"seconds": 0.2 * number} for number in range(8)}
    summary = cluster.ended(cluster.submit(job(groups)))
    assert (summary.completed, summary.dead) == (8, 0)
    cluster.wait_for(lambda: all(run.end for run in api.invocations), 10, "the functions' answers")
    assert len(api.invocations) == len({run.event["task_id"] for run in api.invocations}) == 8
    assert [task.extra["stat_by_itself"] for task in cluster.closed("resize")] == [1] * 8
    assert api.most_at_once() <= 3
