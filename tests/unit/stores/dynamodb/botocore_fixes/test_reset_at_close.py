"""What was given up does not reach the service later; other clients are left alone."""

from __future__ import annotations

import socket
import struct
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import HTTPClientError

from sosw_celery.stores.dynamodb.botocore_fixes.reset_at_close import RESET_AT_CLOSE, reset_at_close
from sosw_celery.stores.dynamodb.client import connect

RESET = (1, 0)
DELIVER = (0, 0)


def lingers(client: Any, url: str) -> tuple[Any, ...]:
    """Return what the kernel is to do when a connection of the client is closed."""
    pool = client._endpoint.http_session._manager.connection_from_url(url)
    connection = pool._get_conn()
    connection.connect()
    try:
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        return struct.unpack("ii", connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    finally:
        connection.close()


def test_what_was_given_up_is_not_delivered_later() -> None:
    """A server that reads again after the client has given up gets a reset, and never the rest of the request."""
    size = 20_000_000  # more than the kernel takes from the one and keeps for the other
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = connect(endpoint_url=url, region_name="eu-west-1", sends=1, timeout_s=0.4)
        with pytest.raises(HTTPClientError):
            client.put_item(TableName="t", Item={"text": {"S": "x" * size}})
        connection, _ = listener.accept()
        received: list[bytes] = []
        with connection, pytest.raises(ConnectionResetError):
            received.extend(iter(lambda: connection.recv(1 << 20), b""))
    assert 0 < sum(map(len, received)) < size


def test_connections_of_this_client_only_are_reset() -> None:
    """Also by the kernel of a process that dies. Other clients of the same session have what botocore gives them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ours = connect(endpoint_url=url, region_name="eu-west-1")
        theirs = boto3.client("dynamodb", endpoint_url=url, region_name="eu-west-1")
        assert lingers(ours, url) == RESET
        assert lingers(theirs, url) == DELIVER


def test_connections_through_a_proxy_are_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies have pools of their own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HTTP_PROXY", proxy)
        ours: Any = connect(endpoint_url="http://tables.example", region_name="eu-west-1")
        manager = ours._endpoint.http_session._get_proxy_manager(proxy)
        assert RESET_AT_CLOSE in manager.connection_pool_kw["socket_options"]


@pytest.mark.parametrize(
    "client", [SimpleNamespace(), SimpleNamespace(_endpoint=SimpleNamespace(http_session=SimpleNamespace()))]
)
def test_a_place_that_is_gone_is_done_without(client: Any) -> None:
    """So a new botocore breaks nothing."""
    before = repr(client)
    reset_at_close(client)
    assert repr(client) == before
