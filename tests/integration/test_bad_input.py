"""What nobody should send, thrown at real workers: no process ends, no queue stops, and each fault is told."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sosw_celery import clock
from sosw_celery.core.tasks.model import JobState
from sosw_celery.names import DISPATCH, QUEUES, SCHEDULER, SWEEP, WORKER_ASSISTANT
from tests.integration.cluster import Cluster

if TYPE_CHECKING:
    from redis import Redis

LABOURERS = {"note": {"max_simultaneous_invocations": 3, "duration": 30, "retry_backoff": 0.1, "max_attempts": 2}}
ALL_QUEUES = [*dict.fromkeys(QUEUES.values()), "note"]
#: A Celery task that each queue takes.
TASK_OF = {**{queue: task for task, queue in QUEUES.items()}, "note": "note"}
#: Stands in bodies, so that logs can be searched for it.
CANARY = "canary-7d1e"
INVOKED = 31_557_600


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster whose lost attempts are noticed within the test; no process runs yet."""
    return make_cluster(labourers=LABOURERS, lease_s=3, renew_s=0.5, settle_s=1, sweep_jobs_s=1)


def headers_of(task: str, **changes: Any) -> dict[str, Any]:
    """Return headers as Celery sends them, with faults."""
    return {"lang": "py", "task": task, "id": uuid.uuid4().hex, "retries": 0, "timelimit": [None, None], **changes}


def send_raw(client: Redis, queue: str, body: bytes, headers: Any, kind: str = "application/json") -> None:
    """Put a message on a queue as kombu does, whatever is in it."""
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "binary" if "python" in kind else "utf-8",
        "content-type": kind,
        "headers": headers,
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": uuid.uuid4().hex,
        },
    }
    client.lpush(queue, json.dumps(message))


def all_taken(cluster: Cluster, what: str) -> None:
    """Wait until every queue is empty, with all processes alive."""
    cluster.wait_for(lambda: not any(map(cluster.services.redis.llen, ALL_QUEUES)), 60, f"{what} to be taken")
    ended = [process.arguments for process in cluster.processes if process.poll() is not None]
    assert not ended, f"{what}: ended\n{cluster.tails()}"


def still_works(cluster: Cluster) -> None:
    """Have a job run through, by the very processes that got all that."""
    submitted = cluster.submit(
        {"lambda_name": "note", "isolate_groups": True, "groups": {f"g{n}": {} for n in range(5)}}
    )
    summary = cluster.ended(submitted, 90)
    assert (summary.state, summary.completed) == (JobState.COMPLETED, 5)
    assert all(process.poll() is None for process in cluster.processes)


BODIES = [
    b"5",
    b"null",
    b"{}",
    f'"{CANARY}"'.encode(),
    b"[[], {}]",
    b"[[], {}, null]",
    b'[[], {}, {"chain": [5]}]',
    b'[{"a": 1}, [], {}]',
    b"NaN",
    b"",
    f"\udcff{CANARY}".encode("utf-8", "surrogateescape"),
    b"[" * 100_000,
    b'[[{"a":' + b"[" * 3_000 + b"]" * 3_000 + b"}], {}, {}]",
    json.dumps([[CANARY], {}, {}]).encode(),
    json.dumps([[], {"x": CANARY}, {}]).encode(),
    json.dumps([[None, None, None], {}, {}]).encode(),
    json.dumps([[{"task_id": "../x", "labourer_id": "note", "attempt": 1}], {}, {}]).encode(),
    json.dumps([[{"task_id": "\ud800", "labourer_id": "note", "attempt": 1}], {}, {}]).encode(),
    json.dumps([[{"task_id": "t", "labourer_id": "note", "attempt": 10**400}], {}, {}]).encode(),
    json.dumps([[{"task_id": "t", "labourer_id": "note", "attempt": 1, "claimed": 5}], {}, {}]).encode(),
    json.dumps([[{"sosw": {"job_id": "nobody", "part": 7}}], {}, {}]).encode(),
    json.dumps(
        [[{"lambda_name": "note", "__proto__": {}, "groups": {"": CANARY}, "isolate_groups": True}], {}, {}]
    ).encode(),
]

HEADERS = [
    {},
    [1],
    {"task": 5},
    {"task": "note", "id": None},
    {"task": "no_such_task", "id": "1", "argsrepr": CANARY},
    {"task": "note", "id": "1", "timelimit": ["a", "b"]},
    {"task": "note", "id": "1", "timelimit": 5},
    {"task": "note", "id": "1", "retries": "x"},
    {"task": "note", "id": "1", "eta": "never"},
    {"task": "note", "id": "1", "compression": "zlib"},
]

NO_MESSAGES = [
    b"garbage",
    b"5",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"body": 5, "headers": 5, "properties": {"delivery_tag": "a", "delivery_info": 5}}',
    b'{"body": "", "properties": {"delivery_tag": [1], "delivery_info": {}}}',
]


@pytest.mark.slow
def test_poisoned_messages_end_no_worker_and_show_nothing_of_themselves(cluster: Cluster) -> None:
    """Bodies, headers and items of the queue that are no messages: each is refused, on every queue, and work goes on.

    None comes again, none ends a process, and none is shown in a log.
    """
    workers = [cluster.worker(), cluster.worker("note", "-c", "2")]
    client = cluster.services.redis
    for queue in ALL_QUEUES:
        for body in BODIES:
            send_raw(client, queue, body, headers_of(TASK_OF[queue]))
        for headers in HEADERS:
            send_raw(client, queue, json.dumps([[CANARY], {}, {}]).encode(), headers)
    all_taken(cluster, "messages")
    # One queue of each worker: after each the node connects anew, which takes it a moment.
    for item in NO_MESSAGES:
        client.lpush("note", item)
        client.lpush("sosw_scheduler", item)
    all_taken(cluster, "items")
    cluster.beat()
    still_works(cluster)
    # What beat has just sent may be under way; what nobody could read is not.
    cluster.wait_for(lambda: client.hlen("unacked") == 0, 20, "no message to be held")
    assert not cluster.closed("note", status=0)
    logs = "".join(map(cluster.log, workers))
    assert logs.count("message refused") > 20 * len(ALL_QUEUES)
    assert "event loop broken" in logs
    assert CANARY not in logs
    assert "trying again" not in logs, "leases and limits were looked at all the while"


@pytest.mark.slow
def test_a_pickled_message_is_refused_on_every_queue_and_never_run(cluster: Cluster) -> None:
    """Only JSON is taken from the broker: what pickle would run does not run, the refusal is told without the body."""
    workers = [cluster.worker(), cluster.worker("note", "-c", "1")]
    trap = cluster.directory / "sprung"
    for queue in ALL_QUEUES:
        body = pickle.dumps(([_Trap(f"touch {trap}"), CANARY], {}, {}))
        for kind in ("application/x-python-serialize", "application/x-yaml", "application/x-msgpack"):
            send_raw(cluster.services.redis, queue, body, headers_of(TASK_OF[queue]), kind)
    all_taken(cluster, "pickles")
    cluster.wait_for(
        lambda: sum(cluster.log(one).count("ContentDisallowed") for one in workers) == 3 * len(ALL_QUEUES),
        20,
        "refusals",
    )
    assert CANARY not in "".join(map(cluster.log, workers))
    cluster.beat()
    still_works(cluster)
    assert not trap.exists()


class _Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.getoutput, (self.command,)


@pytest.mark.slow
def test_arguments_of_wrong_types_fail_their_task_alone(cluster: Cluster) -> None:
    """Whatever the system's own tasks are called with, the next call does its work."""
    cluster.worker(ESSENTIALS_TWO)
    cluster.worker("note", "-c", "1")
    values: list[Any] = [
        None,
        5,
        1.5,
        "",
        "no such",
        "../x",
        "a}{b",
        "\ud800",
        [],
        {},
        ["note"],
        {"a": {"b": [1]}},
        10**39,
    ]
    for name in (DISPATCH, SWEEP, SCHEDULER, WORKER_ASSISTANT):
        for value in values:
            cluster.app.send_task(name, [value], queue=QUEUES[name], ignore_result=True)
        cluster.app.send_task(name, [1, 2, 3, 4], {"wake": "x"}, queue=QUEUES[name], ignore_result=True)
    all_taken(cluster, "arguments")
    cluster.beat()
    still_works(cluster)


#: Both in one node, with two processes.
ESSENTIALS_TWO = ",".join(dict.fromkeys(QUEUES.values()))


#: Rows that cannot be what they say -> what stands in the reason for which they are set aside.
SET_ASIDE: dict[str, tuple[dict[str, Any], str]] = {
    "payload-number": ({"payload": {"N": "5"}}, "reading the row"),
    "payload-no-json": ({"payload": {"S": "not json"}}, "payload cannot be read"),
    "payload-empty": ({"payload": {"S": ""}}, "payload cannot be read"),
    "payload-list": ({"payload": {"S": "[1]"}}, "payload cannot be read"),
    "attempts-text": ({"attempts": {"S": "x"}}, "reading the row"),
    "attempts-negative": ({"attempts": {"N": "-5"}}, "expected a count"),
    "attempts-fraction": ({"attempts": {"N": "1.5"}}, "reading the row"),
    "attempts-huge": ({"attempts": {"N": "9" * 38}}, "expected a count"),
    "created-text": ({"created_at": {"S": "x"}}, "reading the row"),
    "job-number": ({"job_id": {"N": "5"}}, "reading the row"),
    "arn-list": ({"arn": {"L": []}}, "reading the row"),
    "completed-text": ({"completed_at": {"S": "x"}}, "reading the row"),
    "place-low": ({"greenfield": {"N": "-" + "9" * 38}}, "place in a queue"),
    "place-high": ({"greenfield": {"N": "9" * 38}}, "place in a queue"),
    "running-text": ({"greenfield": {"N": "INVOKED"}, "attempts": {"S": "x"}}, "reading the row"),
}
#: Rows that are odd, and can run or be archived all the same.
GO_ON: dict[str, dict[str, Any]] = {
    "payload-missing": {"payload": None},
    "payload-surrogate": {"payload": {"S": '{"a": "\\ud800"}'}},
    "attempts-missing": {"attempts": None},
    "job-unknown": {"job_id": {"S": "nobody"}},
    "job-of-a-part": {"job_id": {"S": "a#part#00000"}},
    "job-too-long": {"job_id": {"S": "j" * 2049}},
    "place-of-digits": {"greenfield": {"N": "1.2345678901234567890123456789012345678"}},
    "done-job-too-long": {
        "greenfield": {"N": "INVOKED"},
        "attempts": {"N": "1"},
        "completed_at": {"N": "5"},
        "job_id": {"S": "j" * 2049},
    },
    "__proto__": {},
    "attribute_not_exists(task_id)": {
        "size": {"S": "reserved"},
        "#g": {"S": ":end"},
        "__class__": {"M": {"": {"N": "1"}}},
    },
    "id with\nline/and 💥": {},
    "x" * 2000: {},
}


@pytest.mark.slow
def test_poisoned_rows_are_set_aside_with_their_reason_and_the_queue_goes_on(cluster: Cluster) -> None:
    """Rows changed by hand are dead with the reason, odd ones run, jobs changed by hand are in nobody's way."""
    put_rows(cluster)
    cluster.worker()
    cluster.worker("note", "-c", "2")
    cluster.beat()
    still_works(cluster)
    cluster.wait_for(lambda: not rows_of(cluster, cluster.services.tables.tasks), 60, "the tasks table to be empty")
    closed = rows_of(cluster, cluster.services.tables.closed)
    for name, (_, reason) in SET_ASIDE.items():
        assert closed[name]["labourer_id_task_status"] == {"S": "note_0"}, name
        assert reason in closed[name]["last_error"]["S"], name
    for name in GO_ON:
        assert closed[name]["labourer_id_task_status"] == {"S": "note_1"}, name
    for name in BROKEN_JOBS:
        cluster.wait_for(lambda name=name: "error" in job_item(cluster, name), 30, f"{name} to be set aside")
        assert "unfinished" not in job_item(cluster, name)


#: Items of jobs that cannot be read, one for each stage of the index.
BROKEN_JOBS = {
    "job-without-anything": {"unfinished": {"S": "2"}},
    "job-in-no-state": {"unfinished": {"S": "2"}, "state": {"S": "x"}, "labourer_id": {"N": "1"}},
    "job-being-written": {"unfinished": {"S": "1"}, "state": {"S": "writing"}},
}


def put_rows(cluster: Cluster) -> None:
    """Write all of the rows above, as somebody with access to the tables could."""
    client, tables, now = cluster.services.dynamodb, cluster.services.tables, clock.now()
    row: dict[str, Any] = {
        "labourer_id": {"S": "note"},
        "greenfield": {"N": str(now - 1000)},
        "created_at": {"N": str(now)},
        "payload": {"S": "{}"},
        "attempts": {"N": "0"},
    }
    for name, changes in {**{name: one for name, (one, _) in SET_ASIDE.items()}, **GO_ON}.items():
        item = {"task_id": {"S": name}, **row, **changes}
        if item["greenfield"] == {"N": "INVOKED"}:
            item["greenfield"] = {"N": str(now + INVOKED)}
        client.put_item(TableName=tables.tasks, Item={key: value for key, value in item.items() if value is not None})
    for name, fields in BROKEN_JOBS.items():
        client.put_item(TableName=tables.jobs, Item={"job_id": {"S": name}, "accepted_at": {"N": "1"}, **fields})


def job_item(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return the item of a job."""
    return rows_of(cluster, cluster.services.tables.jobs, "job_id")[name]


def rows_of(cluster: Cluster, table: str, key: str = "task_id") -> dict[str, Any]:
    """Return all rows of a table by their keys."""
    pages = cluster.services.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {item[key]["S"]: item for page in pages for item in page["Items"]}
