"""Connections over which a request goes out at once, and llhttp reads the answer.

botocore sends through urllib3, and urllib3 through Python's `http.client`: each has classes of its own for headers, and
those of an answer are read by the parser for mail. That takes longer than signing, sending and receiving, and most
of it comes to nothing for a service whose requests and answers all look alike. These pools are botocore's: how they
connect, encrypt, keep connections and tell of errors is urllib3's and stays so. What is not a plain request goes
urllib3's way altogether.

A connection that is given up, or whose process dies, is reset. By default the kernel would go on to deliver what it has
taken: a request that was waited for in vain could reach the service long after everybody reckoned with it.
"""

from __future__ import annotations

import io
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httptools
from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool
from urllib3.exceptions import ProtocolError, ReadTimeoutError, SSLError

__all__ = ["POOLS", "Answer", "CheckedBody"]

RECEIVED_AT_ONCE = 65_536
#: Below are answers that another one follows, such as "100 Continue".
FIRST_FINAL_STATUS = 200
#: Options of a request that let it go urllib3's way, where they say anything.
UNUSUAL = frozenset({"chunked", "timeout"})
#: Has the kernel drop what it has not sent, and reset the connection, when the socket is closed.
RESET_AT_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
#: As urllib3's connections have it.
AT_ONCE = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

SocketOptions = Sequence[tuple[int, int, "int | bytes"]]


class CheckedBody(io.BytesIO):
    """A request's body that `check` lets go right before the socket takes it; what that raises keeps it back.

    That is later than botocore's last event by a look at the connection, perhaps the making of one, and a few turns of
    other threads. On urllib3's way the check is made while the body is read: one that breaks off is no request.
    """

    def __init__(self, body: bytes, check: Callable[[], None]) -> None:
        super().__init__(body)
        self.check = check

    def read(self, size: int | None = -1, /) -> bytes:
        """Return some of the body, if it may go."""
        data = super().read(size)
        self.check()
        return data


@dataclass(frozen=True)
class Answer:
    """An answer that was received as a whole, with the names that botocore reads of urllib3's.

    Parameters:
        headers: A header that came several times is one, with commas between.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    keeps_connection: bool

    def stream(self) -> Iterator[bytes]:
        """Yield the body."""
        yield self.body


class _Reader:
    """Reads one answer. Its public methods are what the parser calls."""

    def __init__(self) -> None:
        self._parser: Any = None
        self._answer: Answer | None = None
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def read(self, socket: Any) -> Answer:
        """Return the answer.

        Raises:
            ProtocolError: The other side closed the connection before, or sent something else.
            OSError: The connection broke, or the time-out of the socket passed.
        """
        self._parser = parser = httptools.HttpResponseParser(self)
        try:
            while self._answer is None:
                data = socket.recv(RECEIVED_AT_ONCE)
                if not data:
                    raise ProtocolError("connection closed before the end of the answer")
                parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise ProtocolError("no answer of HTTP/1.1", error) from error
        finally:
            self._parser = None  # each has the other, and there are a thousand a second for the collector to find
        return self._answer

    def on_message_begin(self) -> None:
        """Begin anew: what came before was no final answer."""
        if self._answer is not None:
            raise ProtocolError("more than one answer")
        self._begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        key, text = name.decode("latin-1"), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        self._body.append(part)

    def on_message_complete(self) -> None:
        """Have the answer, unless another one follows."""
        status, keeps = self._parser.get_status_code(), self._parser.should_keep_alive()
        if status >= FIRST_FINAL_STATUS:
            self._answer = Answer(status, self._headers, b"".join(self._body), keeps)


def _nothing() -> None:
    pass


class _ShortWay:
    """A pool whose plain requests go out at once, and whose connections are reset when they are closed."""

    def __init__(self, *arguments: Any, socket_options: SocketOptions = (AT_ONCE,), **options: Any) -> None:
        super().__init__(*arguments, socket_options=[*socket_options, RESET_AT_CLOSE], **options)  # type: ignore[call-arg]

    def urlopen(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> Any:
        """Do as urllib3's pools do; an answer is there as a whole when this returns."""
        is_plain = isinstance(body, (bytes, CheckedBody)) and not any(options.get(name) for name in UNUSUAL)
        head = self._head(method, url, headers) if is_plain else None
        if head is None:
            return super().urlopen(method, url, body, headers, **options)  # type: ignore[misc]
        if isinstance(body, CheckedBody):
            return self._exchange(url, head + body.getvalue(), body.check)
        return self._exchange(url, head + body)

    def _head(self: Any, method: str, url: str, headers: Mapping[str, Any]) -> bytes | None:
        """Return what stands before the body; None where it is urllib3's matter."""
        given = {name.lower() for name in headers}
        own = {"Host": self._host_header(), "Accept-Encoding": "identity"}
        fields = [*((name, value) for name, value in own.items() if name.lower() not in given), *headers.items()]
        lines = [f"{method} {url} HTTP/1.1"]
        lines += [f"{name}: {value.decode('latin-1') if isinstance(value, bytes) else value}" for name, value in fields]
        head = "\r\n".join([*lines, "", ""])
        is_clean = head.isascii() and head.count("\r") == head.count("\n") == len(lines) + 1
        return head.encode() if is_clean else None

    def _host_header(self: Any) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == self.ConnectionCls.default_port else f"{host}:{self.port}"

    def _exchange(self: Any, url: str, request: bytes, check: Callable[[], None] = _nothing) -> Answer:
        connection = self._get_conn()
        keeps = False
        try:
            self._connect(connection)
            connection.sock.settimeout(self.timeout.read_timeout)
            check()
            connection.sock.sendall(request)
            answer = _Reader().read(connection.sock)
            keeps = answer.keeps_connection
        except ssl.SSLError as error:
            raise SSLError(error) from error
        except TimeoutError as error:
            raise ReadTimeoutError(self, url, f"no answer within {self.timeout.read_timeout} s") from error
        except OSError as error:
            raise ProtocolError("connection aborted", error) from error
        finally:
            if not keeps:  # whatever has happened: what is on its way there is not the next request's answer
                connection.close()
            self._put_conn(connection)
        return answer

    def _connect(self: Any, connection: Any) -> None:
        if not getattr(connection, "sock", None):
            self._validate_conn(connection)  # connects where that is part of it: by TLS
        if not getattr(connection, "sock", None):
            connection.connect()


class _Pool(_ShortWay, AWSHTTPConnectionPool):  # type: ignore[misc]  # botocore has no types
    pass


class _TLSPool(_ShortWay, AWSHTTPSConnectionPool):  # type: ignore[misc]
    pass


#: By the scheme of the URL, as a manager of urllib3's pools wants them.
POOLS = {"http": _Pool, "https": _TLSPool}
