"""Requests that go out at once: what servers get, what callers get of their answers, and what of their failures."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from botocore.awsrequest import AWSHTTPConnectionPool
from botocore.exceptions import SSLError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError
from urllib3.util import Timeout

from sosw_celery.errors import StoreUnavailable, TransitionRefused
from sosw_celery.stores.dynamodb import client as dynamodb_client
from sosw_celery.stores.dynamodb.fast.http_pool import POOLS, Answer, CheckedBody
from sosw_celery.stores.dynamodb.requests import translated

READ_S = 0.4
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Scripted:
    """A server that gives one answer after the other, whatever it is asked.

    Parameters:
        answers: Bytes; for `None` nothing comes, for an empty answer the connection is closed.
        requests: What came in, each with the number of its connection.
        hangs_up: Whether it closes a connection after any answer.
    """

    port: int = 0
    answers: list[bytes | None] = field(default_factory=list)
    requests: list[tuple[int, bytes]] = field(default_factory=list)
    hangs_up: bool = False
    closed: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket, number: int) -> None:
        """Answer until the other side closes."""
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as incoming:
            while request := _request(incoming):
                self.requests.append((number, request))
                answer = self.answers.pop(0)
                connection.sendall(answer or b"")
                if answer == b"" or self.hangs_up:
                    return
            self.closed.set()


def _request(incoming: Any) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = incoming.readline()
        if not line:
            return b""
        head += line
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return head + bytes(incoming.read(int(length.split(b":")[1])))


@pytest.fixture
def start() -> Iterator[Callable[..., Scripted]]:
    """Start servers, which end with the test."""
    listeners = []

    def begin(wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain) -> Scripted:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        server = Scripted(listener.getsockname()[1])

        def accept() -> None:
            number = 0
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                number += 1
                threading.Thread(target=serve, args=(connection, number), daemon=True).start()

        def serve(connection: socket.socket, number: int) -> None:
            with contextlib.suppress(OSError):  # the other side does not trust us
                server.serve(wrap(connection), number)

        threading.Thread(target=accept, daemon=True).start()
        return server

    yield begin
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def server(start: Callable[..., Scripted]) -> Scripted:
    """A server without TLS."""
    return start()


def pool_to(server: Scripted) -> Any:
    """Return a pool of connections to it."""
    return POOLS["http"]("127.0.0.1", server.port, timeout=Timeout(connect=2, read=READ_S))


def ask(pool: Any, body: Any = b"{}", **headers: Any) -> Any:
    """Send a request as botocore's session does."""
    length = {"Content-Length": str(len(body) if isinstance(body, bytes) else 2)}
    return pool.urlopen(
        method="POST",
        url="/",
        body=body,
        headers={**length, **headers},
        retries=False,
        assert_same_host=False,
        preload_content=False,
        decode_content=False,
        chunked=False,
        enforce_content_length=False,
    )


def content(answer: Any) -> bytes:
    """Return the body."""
    return b"".join(answer.stream())


def test_an_answer_has_its_status_headers_and_body(server: Scripted) -> None:
    """A header that comes twice has both values."""
    server.answers = [b"HTTP/1.1 400 Bad\r\nX-A: 1\r\nx-b: 2\r\nX-A: 3\r\nContent-Length: 5\r\n\r\nerror"]
    answer = ask(pool_to(server))
    assert isinstance(answer, Answer)
    assert (answer.status, content(answer)) == (400, b"error")
    assert answer.headers == {"X-A": "1, 3", "x-b": "2", "Content-Length": "5"}


def test_the_request_is_what_urllib3_would_send(server: Scripted) -> None:
    """Byte for byte, but that urllib3 wants two packets for it."""
    server.answers = [OK, OK]
    headers = {"X-Amz-Target": "Put", "Authorization": b"AWS4 x", "User-Agent": "sosw"}
    ask(pool_to(server), b'{"a": 1}', **headers)
    theirs = AWSHTTPConnectionPool("127.0.0.1", server.port)
    content(ask(theirs, b'{"a": 1}', **headers))
    (_, ours), (_, urllib3s) = server.requests
    assert sorted(ours.split(b"\r\n")) == sorted(urllib3s.split(b"\r\n"))
    assert ours.endswith(b'\r\n\r\n{"a": 1}')


@given(
    answers=st.lists(
        st.tuples(st.binary(max_size=300), st.booleans(), st.integers(min_value=1, max_value=40)),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bodies_come_as_they_were_sent(start: Callable[..., Scripted], answers: list[tuple[bytes, bool, int]]) -> None:
    """With their length or in chunks, over one connection."""
    server = start()
    server.answers = [_chunked(body, size) if in_chunks else _sized(body) for body, in_chunks, size in answers]
    pool = pool_to(server)
    assert [content(ask(pool)) for _ in answers] == [body for body, *_ in answers]
    assert {number for number, _ in server.requests} == {1}
    pool.close()


def _sized(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def test_an_answer_in_many_packets_is_put_together(start: Callable[..., Scripted]) -> None:
    """However they are cut."""

    class Slowly(socket.socket):
        def sendall(self, data: Any, flags: int = 0) -> None:
            for position in range(len(data)):
                self.send(data[position : position + 1])

    server = start(lambda plain: Slowly(fileno=plain.detach()))
    server.answers = [OK, OK]
    pool = pool_to(server)
    assert [content(ask(pool)), content(ask(pool))] == [b"{}", b"{}"]


def test_what_comes_before_an_answer_is_not_the_answer(server: Scripted) -> None:
    """As "100 Continue"."""
    server.answers = [b"HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\n" + OK]
    answer = ask(pool_to(server))
    assert (answer.status, content(answer)) == (200, b"{}")
    assert "X-A" not in answer.headers


@pytest.mark.parametrize("answer", [OK.replace(b"1.1", b"1.0"), OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)])
def test_a_connection_that_the_server_gives_up_is_not_used_again(server: Scripted, answer: bytes) -> None:
    """The next request has a new one."""
    server.answers = [answer, OK]
    pool = pool_to(server)
    ask(pool)
    ask(pool)
    assert [number for number, _ in server.requests] == [1, 2]


def test_a_connection_that_was_closed_meanwhile_is_opened_again(server: Scripted) -> None:
    """Before the request is sent, which cannot get lost by that."""
    pool = pool_to(server)
    server.answers = [OK, OK]
    ask(pool)
    (connection,) = [each for each in pool.pool.queue if each is not None]
    connection.sock.shutdown(socket.SHUT_RDWR)
    assert server.closed.wait(5)
    ask(pool)
    assert [number for number, _ in server.requests] == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        OK[:-1],
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"220 mail.example ESMTP\r\n",
        OK + OK,
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "no length", "another protocol", "two answers", "an upgrade"],
)
def test_what_is_no_whole_answer_is_an_aborted_connection(server: Scripted, answer: bytes) -> None:
    """Which botocore repeats, over another connection."""
    server.answers, server.hangs_up = [answer, OK], True
    pool = pool_to(server)
    with pytest.raises(ProtocolError):
        ask(pool)
    assert content(ask(pool)) == b"{}"
    assert [number for number, _ in server.requests] == [1, 2]


def test_an_answer_that_does_not_come_is_a_time_out(server: Scripted) -> None:
    """Should it come later, nobody takes it for the answer to the next request."""
    server.answers = [None, OK]
    pool = pool_to(server)
    with pytest.raises(ReadTimeoutError):
        ask(pool)
    assert content(ask(pool)) == b"{}"
    assert [number for number, _ in server.requests] == [1, 2]


def test_an_answer_is_waited_for_as_long_as_is_stated(server: Scripted) -> None:
    """And no longer where it may take longer to connect."""
    server.answers = [OK]
    pool = pool_to(server)
    ask(pool)
    kept = pool.pool.get_nowait()
    assert kept.sock.gettimeout() == READ_S
    kept.close()


def test_what_was_given_up_is_not_delivered_later() -> None:
    """A server that reads again after the client has given up gets a reset, and never the rest of the request."""
    size = 20_000_000  # more than the kernel takes from the one and keeps for the other
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pool = POOLS["http"]("127.0.0.1", listener.getsockname()[1], timeout=Timeout(connect=2, read=READ_S))
        with pytest.raises(ReadTimeoutError):
            ask(pool, b"x" * size)
        connection, _ = listener.accept()
        received: list[bytes] = []
        with connection, pytest.raises(ConnectionResetError):
            received.extend(iter(lambda: connection.recv(1 << 20), b""))
    assert sum(map(len, received)) < size


def test_a_process_that_dies_leaves_nothing_to_be_delivered(server: Scripted) -> None:
    """Its kernel closes its sockets, and resets these."""
    server.answers = [OK]
    pool = pool_to(server)
    ask(pool)
    kept = pool.pool.get_nowait()
    assert struct.unpack("ii", kept.sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)
    assert kept.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    kept.close()


def test_a_checked_body_is_asked_for_when_the_connection_stands(server: Scripted) -> None:
    """What the check raises comes through, and not a byte of the request has left."""
    server.answers = [OK]
    pool = pool_to(server)
    connect, happened = pool._connect, []

    def connected(connection: Any) -> None:
        connect(connection)
        happened.append("connected")

    pool._connect = connected
    may_go = [True, False]

    def check() -> None:
        happened.append("checked")
        if not may_go.pop(0):
            raise StoreUnavailable("dynamodb", "write", "too late")

    answer = ask(pool, CheckedBody(b"{}", check))
    assert isinstance(answer, Answer)
    with pytest.raises(StoreUnavailable):
        ask(pool, CheckedBody(b"{}", check))
    assert happened == ["connected", "checked"] * 2
    assert len(server.requests) == 1


def test_a_checked_body_that_goes_urllib3s_way_may_be_kept_back(server: Scripted) -> None:
    """What the check raises comes through, and the request breaks off before its body."""
    server.answers = [OK, OK]
    pool = pool_to(server)

    def too_late() -> None:
        raise StoreUnavailable("dynamodb", "write", "too late")

    with pytest.raises(StoreUnavailable):
        ask(pool, CheckedBody(b"{}", too_late), **{"X-Name": "\u00e9"})
    answer = ask(pool, CheckedBody(b"{}", lambda: None), **{"X-Name": "\u00e9"})
    assert not isinstance(answer, Answer)
    assert content(answer) == b"{}"
    assert [number for number, request in server.requests if request.endswith(b"{}")] == [2]


def test_an_interrupted_request_leaves_no_answer_behind(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit may interrupt a task anywhere."""
    server.answers = [_sized(b"late"), OK]
    pool = pool_to(server)

    def interrupted(_: Any, connection: socket.socket) -> None:
        connection.recv(1, socket.MSG_PEEK)  # the answer has come
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sosw_celery.stores.dynamodb.fast.http_pool._Reader.read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask(pool)
    assert content(ask(pool)) == b"{}"


def test_nobody_there_is_a_new_connection_that_failed() -> None:
    """As urllib3 says it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NewConnectionError):
        ask(POOLS["http"]("127.0.0.1", port, timeout=Timeout(connect=2, read=READ_S)))


def test_a_header_adds_no_lines(server: Scripted) -> None:
    """Neither by our hand nor by urllib3's."""
    for value in ("a\r\nX-Evil: 1", "a\nX-Evil: 1"):
        with pytest.raises(ValueError, match="Invalid header value"):
            ask(pool_to(server), **{"X-Amz-Security-Token": value})
    assert server.requests == []


def test_a_body_that_is_read_goes_urllib3s_way(server: Scripted) -> None:
    """What is no text of bytes is nothing that could be sent at once."""
    server.answers = [OK]
    answer = ask(pool_to(server), io.BytesIO(b"{}"))
    assert not isinstance(answer, Answer)
    assert content(answer) == b"{}"
    assert server.requests[0][1].endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("http", "tables.example", 80, "tables.example"),
        ("http", "tables.example", 8000, "tables.example:8000"),
        ("https", "tables.example", 443, "tables.example"),
        ("https", "::1", 8000, "[::1]:8000"),
    ],
)
def test_the_host_is_named_with_its_port_if_that_is_unusual(scheme: str, host: str, port: int, expected: str) -> None:
    """As signatures expect it."""
    assert POOLS[scheme](host, port)._host_header() == expected


# ---- by a client


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of nobody."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture
def authority() -> trustme.CA:
    """An authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def encrypted(start: Callable[..., Scripted], authority: trustme.CA) -> Scripted:
    """A server with a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return start(lambda plain: context.wrap_socket(plain, server_side=True))


def put(server: Scripted, scheme: str) -> None:
    """Put an item."""
    client = dynamodb_client.connect(endpoint_url=f"{scheme}://localhost:{server.port}", region_name="eu-west-1")
    with translated("PutItem"):
        for _ in range(2):
            client.put_item(TableName="t", Item={"task_id": {"S": "a"}})


@pytest.mark.usefixtures("credentials")
def test_a_client_keeps_its_encrypted_connection(
    encrypted: Scripted, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To a server whose certificate it was told to trust."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    encrypted.answers = [OK, OK]
    put(encrypted, "https")
    assert [number for number, _ in encrypted.requests] == [1, 1]
    assert all(b"X-Amz-Target: DynamoDB_20120810.PutItem\r\n" in request for _, request in encrypted.requests)


@pytest.mark.usefixtures("credentials")
def test_a_client_tells_a_server_that_it_does_not_trust_nothing(
    encrypted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even on the last of its tries."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(StoreUnavailable) as caught:
        put(encrypted, "https")
    assert isinstance(caught.value.__cause__, SSLError)
    assert encrypted.requests == []


@pytest.mark.usefixtures("credentials")
def test_a_client_asks_once_more_whether_a_request_may_go(server: Scripted) -> None:
    """When its connection stands, which may have taken longer than what allows the request has left."""
    asked: list[bool] = []

    def check() -> None:
        asked.append(True)
        if len(asked) > 1:
            raise TransitionRefused("t", "write", "a lease that ran out")

    with dynamodb_client.sent_only_if(check), pytest.raises(TransitionRefused):
        put(server, "http")
    assert server.requests == []


@pytest.mark.usefixtures("credentials")
def test_a_client_repeats_what_got_no_whole_answer(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over another connection, as botocore does."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    server.answers = [b"", OK, OK]
    put(server, "http")
    assert [number for number, _ in server.requests] == [1, 2, 2]
