"""Notices about dead tasks, from real processes to an SNS topic, a webhook and a function."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sosw_celery import clock
from sosw_celery.stores.dynamodb.alert_outbox import EVERYBODY
from tests.integration.cluster import Cluster

LABOURERS = {"note": {"max_simultaneous_invocations": 3, "duration": 30, "max_attempts": 1}}


class Hook(BaseHTTPRequestHandler):
    """A webhook: the first requests are refused, as many as its server says."""

    def do_POST(self) -> None:
        """Take or refuse a notice."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        server.refusals -= 1
        if server.refusals < 0:
            server.texts.append(body["text"])
        self.send_response(200 if server.refusals < 0 else 500)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[Any]:
    """A webhook on this machine."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.texts, server.refusals = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Topic:
    """An SNS topic on moto's server, and a queue that gets what is published."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._sqs = boto3.client("sqs", endpoint_url=endpoint)
        sns = boto3.client("sns", endpoint_url=endpoint)
        self.arn = sns.create_topic(Name="dead-tasks")["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName="dead-tasks")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=arn)

    def messages(self) -> list[dict[str, Any]]:
        """Return what was published since the last look."""
        found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]


@pytest.fixture
def topic() -> Iterator[Topic]:
    """A topic on a server of its own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield Topic(f"http://{host}:{port}")
    server.stop()


def job(groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a job with one task for each group."""
    return {"lambda_name": "note", "isolate_groups": True, "groups": groups}


def kept(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the notices that the function has written down."""
    return [json.loads(path.read_text()) for path in cluster.history.glob("*.notice")]


def all_is_told(cluster: Cluster) -> bool:
    """Tell whether nothing is owed to anybody and nobody is telling."""
    outbox, now = cluster.services.outbox, clock.now()
    return not any(outbox.owed(whom, 9) for whom in (EVERYBODY, "webhook")) and outbox.claim(now, now)


@pytest.mark.slow
def test_all_hear_of_each_dead_task_once_from_several_scavengers(
    make_cluster: Callable[..., Cluster], topic: Topic, hook: Any
) -> None:
    """Three targets, of which one refuses at first; two scavengers, of which one is killed; jobs end meanwhile."""
    cluster = make_cluster(
        labourers=LABOURERS,
        sns_config={"recipient": topic.arn, "subject": "Dead"},
        notices={"every_s": 1, "webhook": f"http://127.0.0.1:{hook.server_port}/hook", "call": "notice_keeper:keep"},
    )
    cluster.environment["AWS_ENDPOINT_URL_SNS"] = topic.endpoint
    hook.refusals = 2
    cluster.worker()
    doomed = cluster.worker("sosw_scavenger")
    cluster.worker("note", "-c", "3")
    cluster.beat()
    groups: dict[str, dict[str, Any]] = {f"bad{number}": {"manner": "raise"} for number in range(6)}
    assert cluster.ended(cluster.submit(job({**groups, "good": {}}))).dead == 6
    # Who is killed while it tells keeps the others from telling until its claim ends, and its notice comes twice.
    cluster.wait_for(lambda: all_is_told(cluster), 30, "six deaths told to all")
    os.killpg(doomed.pid, signal.SIGKILL)
    assert cluster.ended(cluster.submit(job({"late": {"manner": "raise"}}))).dead == 1
    cluster.wait_for(lambda: sum(notice["total"] for notice in kept(cluster)) >= 7, 30, "the function to be told")
    cluster.wait_for(lambda: sum(int(text.split()[0]) for text in hook.texts) >= 7, 30, "the webhook to be told")
    dead = {task.task_id for task in cluster.closed("note", status=0)}
    told = [task["task_id"] for notice in kept(cluster) for task in notice["tasks"]]
    assert sorted(told) == sorted(dead)
    assert sum(int(text.split()[0]) for text in hook.texts) == 7
    published: list[dict[str, Any]] = []
    cluster.wait_for(lambda: (published.extend(topic.messages()), len(published) >= len(kept(cluster)))[1], 20, "SNS")
    assert {message["Subject"] for message in published} == {"Dead"}
    assert sum(int(message["Message"].split()[0]) for message in published) == 7
    assert "ValueError: as the event says" in published[0]["Message"]
    assert len(published) < 7
    cluster.wait_for(lambda: all_is_told(cluster), 10, "an empty outbox")


@pytest.mark.slow
def test_deaths_while_nobody_tells_are_told_after_the_restart(make_cluster: Callable[..., Cluster]) -> None:
    """No beat, then a flushed Redis, then new processes: what died before is told all the same."""
    cluster = make_cluster(labourers=LABOURERS, notices={"every_s": 1, "call": "notice_keeper:keep"})
    essentials, worker = cluster.worker(), cluster.worker("note", "-c", "3")
    cluster.submit(job({"bad": {"manner": "raise"}, "worse": {"manner": "exit"}}))
    cluster.wait_for(lambda: len(cluster.closed("note", status=0)) == 2, 30, "two dead tasks")
    for process in (essentials, worker):
        os.killpg(process.pid, signal.SIGKILL)
    assert kept(cluster) == []
    cluster.services.redis.flushall()
    cluster.worker()
    cluster.beat()
    cluster.wait_for(lambda: kept(cluster), 30, "a notice")
    (notice,) = kept(cluster)
    assert (notice["total"], notice["labourers"]) == (2, {"note": 2})
    assert {task["task_id"] for task in notice["tasks"]} == {row.task_id for row in cluster.closed("note", status=0)}
