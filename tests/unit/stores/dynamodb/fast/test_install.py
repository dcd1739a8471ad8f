"""A client that takes shortcuts sends what any other one sends, to the same place, and leaves others alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSHTTPConnectionPool, AWSResponse
from botocore.config import Config

from sosw_celery.stores.dynamodb import client as dynamodb_client
from sosw_celery.stores.dynamodb.fast.http_pool import POOLS
from sosw_celery.stores.dynamodb.fast.install import shorten
from sosw_celery.stores.dynamodb.fast.parser import ItemParserFactory
from sosw_celery.stores.dynamodb.fast.serializer import ItemSerializer

#: Headers that differ from request to request, or by who sends.
OWN = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request", "user-agent"}


class Echo(BaseHTTPRequestHandler):
    """Answers every request and takes notes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the name that http.server calls
        """Note a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server that takes any request."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url_of(server: Any) -> str:
    """Return where it listens."""
    return f"http://127.0.0.1:{server.server_address[1]}"


def put(client: Any) -> None:
    """Send a request."""
    client.put_item(TableName="t", Item={"task_id": {"S": "a"}})


def test_the_same_is_sent(server: Any) -> None:
    """To the same path, with the same headers and the same scope of the signature, time after time."""
    put(boto3.client("dynamodb", endpoint_url=url_of(server), region_name="eu-west-1"))
    ours = dynamodb_client.connect(endpoint_url=url_of(server), region_name="eu-west-1")
    put(ours)
    put(ours)
    (path, headers, body), *others = server.seen
    for other_path, other_headers, other_body in others:
        assert (other_path, other_body) == (path, body)
        assert {name: value for name, value in other_headers.items() if name.lower() not in OWN} == {
            name: value for name, value in headers.items() if name.lower() not in OWN
        }
        scopes = [each["Authorization"].split("/", 1)[1].split(",")[0] for each in (headers, other_headers)]
        assert scopes[0] == scopes[1]
        assert scopes[0].endswith("/eu-west-1/dynamodb/aws4_request")


def test_requests_go_through_the_proxy_that_is_configured(server: Any) -> None:
    """With the whole URL for its target, as proxies want it."""
    config = Config(proxies={"http": url_of(server)}, parameter_validation=False)
    client = boto3.client("dynamodb", endpoint_url="http://tables.example", region_name="eu-west-1", config=config)
    shorten(client, endpoint_is_given=True)
    put(client)
    put(client)
    assert [path for path, *_ in server.seen] == ["http://tables.example/"] * 2


def test_without_an_endpoint_botocore_finds_it() -> None:
    """By its rules: those of regions, and of accounts that have endpoints of their own."""
    client: Any = dynamodb_client.connect(endpoint_url=None, region_name="eu-west-1")
    asked: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        asked.append(request.url)
        return AWSResponse(request.url, 200, {}, SimpleNamespace(stream=lambda: iter([b"{}"])))

    client.meta.events.register_first("before-send.dynamodb", answer)
    client._request_signer.sign = lambda *_, **__: None
    put(client)
    (url,) = asked
    assert url.startswith("https://")
    assert "dynamodb.eu-west-1" in url or ".ddb.eu-west-1" in url


def test_every_shortcut_has_its_place_in_botocore() -> None:
    """If this fails, botocore has moved one: clients work as before, but slower."""
    plain: Any = boto3.client("dynamodb", region_name="eu-west-1", endpoint_url="http://127.0.0.1:1")
    session = plain._endpoint.http_session
    ours: Any = dynamodb_client.connect(endpoint_url="http://127.0.0.1:1", region_name="eu-west-1")
    short = ours._endpoint.http_session
    for one, other, name in [
        (session, short, "_setup_ssl_cert"),
        (session, short, "_get_request_target"),
        (session._manager, short._manager, "connection_from_url"),
        (session._proxy_config, short._proxy_config, "proxy_url_for"),
    ]:
        assert not hasattr(getattr(one, name), "cache_info")
        assert hasattr(getattr(other, name), "cache_info")
    assert short._manager.connection_from_url("http://127.0.0.1:1").__class__ is POOLS["http"]
    assert session._manager.connection_from_url("http://127.0.0.1:1").__class__ is AWSHTTPConnectionPool
    assert plain._ruleset_resolver is not None
    assert ours._ruleset_resolver is None
    assert isinstance(ours._serializer, ItemSerializer)
    assert not isinstance(plain._serializer, ItemSerializer)
    assert isinstance(ours._endpoint._response_parser_factory, ItemParserFactory)
    assert not isinstance(plain._endpoint._response_parser_factory, ItemParserFactory)


def test_a_place_that_is_gone_is_done_without() -> None:
    """So a new botocore breaks nothing."""
    bare = SimpleNamespace(_endpoint=SimpleNamespace())
    shorten(bare, endpoint_is_given=False)
    assert not hasattr(bare, "_serializer")
