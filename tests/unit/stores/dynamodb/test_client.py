"""What keeps a request to DynamoDB from being sent."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from sosw_celery.errors import ConfigError, TransitionRefused
from sosw_celery.stores.dynamodb.client import connect, sent_only_if
from sosw_celery.stores.dynamodb.requests import translated
from tests.harness.waiting import wait_for


def test_a_request_can_be_stopped_when_it_is_sent() -> None:
    """A check that fails right before the sending keeps the request back, in this thread and inside the block only."""

    def too_late() -> None:
        raise TransitionRefused("j1#part#00000", "write")

    def put() -> None:
        with translated("PutItem"):
            client.put_item(TableName="kept", Item={"id": {"S": "1"}})

    with mock_aws():
        client = connect(endpoint_url=None, region_name="eu-west-1")
        client.create_table(
            TableName="kept",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        with sent_only_if(too_late), pytest.raises(TransitionRefused):
            put()
        assert client.scan(TableName="kept")["Count"] == 0
        with sent_only_if(lambda: None):
            put()
        assert client.scan(TableName="kept")["Count"] == 1
        with sent_only_if(too_late):
            thread = threading.Thread(target=put)
            thread.start()
            thread.join()
        put()


@dataclass
class Received:
    """What came to a server: bytes of each request's body, and how many were announced."""

    port: int
    bodies: list[tuple[int, int]] = field(default_factory=list)


@pytest.fixture
def received() -> Iterator[Received]:
    """A server that takes any request, and ends with the test."""

    class Noting(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that http.server calls
            announced = int(self.headers["Content-Length"])
            try:
                body = self.rfile.read(announced)
            except ConnectionResetError:
                body = b""
            noted.bodies.append((len(body), announced))
            if len(body) == announced:
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    noted = Received(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield noted
    server.shutdown()
    server.server_close()  # waits for the threads of all requests
    thread.join()


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_request_is_kept_back_at_its_last_bytes(received: Received, size: int) -> None:
    """What kept the sending may have taken longer than the check allowed: each block of the body is asked for.

    A service does nothing for a request that breaks off, and what goes out whole was let go at its last block. botocore
    takes what was raised there for an error of the connection, and the check raises it again before the repetition.
    """
    client = connect(endpoint_url=f"http://127.0.0.1:{received.port}", region_name="eu-west-1", sends=2)
    may_go = itertools.count()
    allowed = 10_000

    def check() -> None:
        if next(may_go) >= allowed:
            raise TransitionRefused("t", "write", "a lease that ran out")

    def put() -> None:
        with sent_only_if(check):
            client.put_item(TableName="t", Item={"text": {"S": "x" * size}})

    put()
    allowed, may_go = next(may_go) - 1, itertools.count()
    with pytest.raises(TransitionRefused), translated("PutItem"):
        put()
    wait_for(lambda: len(received.bodies) == 2, 10, "both requests")
    assert [came == announced for came, announced in received.bodies] == [True, False]


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({}, r"sosw\.aws_region: expected a region of AWS, .*AWS_DEFAULT_REGION"),
        ({"AWS_PROFILE": "nobody"}, r"configuration of AWS: expected one that boto3 can use, got .*nobody"),
    ],
)
def test_what_boto3_lacks_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], error: str
) -> None:
    """Whoever submits a job gets an error of ours, as is said of it, and not one of botocore's."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # what it read before, it keeps
    with pytest.raises(ConfigError, match=error):
        connect(endpoint_url=None, region_name=None)
