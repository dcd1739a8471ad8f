"""A TCP proxy in front of a server, which cuts, delays, refuses and hangs connections when the test says so.

It runs in a thread with a loop of its own. Bytes pass through as they come, in their order; nobody looks into them.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar, cast

__all__ = ["LOOPBACK", "TcpProxy"]

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
#: Has `close` send a reset.
LINGER_NOT = struct.pack("ii", 1, 0)


class TcpProxy:
    """Listens at `port` while the block runs, and passes everything on to `target`, a port of this machine.

    The methods have taken effect when they return. All of them may be called from any thread.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        #: Connections that were made so far.
        self.connections = 0
        self.to_server_s = 0.0
        self.to_client_s = 0.0
        self.hangs = False
        self._links: set[_Link] = set()
        #: All that is open, of links that were given up as well.
        self._transports: set[asyncio.BaseTransport] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        # Bound for as long as the proxy is there, so that the port stays ours while it refuses.
        self._reserved = _bound(0)
        self.port: int = self._reserved.getsockname()[1]

    def __enter__(self) -> TcpProxy:
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.refuse()
        asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reserved.close()

    # ---- what goes wrong

    def cut(self) -> int:
        """Reset every connection, both ways, and return how many; new ones are taken."""
        return self._in_loop(self._cut)

    def refuse(self) -> None:
        """Reset every connection and take none, until `accept`."""

        def close() -> None:
            if self._server is not None:
                self._server.close()
            self._server = None
            self._cut()

        self._in_loop(close)

    def accept(self) -> None:
        """Take connections again."""

        async def listen() -> None:
            if self._server is None:
                loop = asyncio.get_running_loop()
                self._server = await loop.create_server(lambda: _Side(_Link(self)), sock=_bound(self.port))

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result()

    def hang(self) -> None:
        """Pass nothing on any more, not even the end of a connection, as a network does that swallows packets.

        Connections are taken and get no answer. A server goes on to believe in clients that have gone meanwhile.
        """
        self._in_loop(lambda: setattr(self, "hangs", True))

    def delay(self, *, to_server_s: float = 0.0, to_client_s: float = 0.0) -> None:
        """Pass everything on so much later, each direction for itself."""

        def set_delay() -> None:
            self.to_server_s, self.to_client_s = to_server_s, to_client_s

        self._in_loop(set_delay)

    def heal(self) -> None:
        """Have everything pass at once, first what was held back, and take connections."""

        def go_on() -> None:
            self.hangs, self.to_server_s, self.to_client_s = False, 0.0, 0.0
            for link in list(self._links):
                link.go_on()

        self._in_loop(go_on)
        self.accept()

    # ---- inside

    async def _close_all(self) -> None:
        """Have everything closed that is open or about to be: who ends before it is warned of by Python."""
        opening = asyncio.all_tasks() - {asyncio.current_task()}
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        while self._transports:
            for transport in self._transports:
                cast(asyncio.Transport, transport).abort()
            await asyncio.sleep(0)  # the loop tells of the end of each in its next turn

    def cpu_s(self) -> float:
        """Return the CPU time that the proxy's thread has used."""
        return self._in_loop(time.thread_time)

    def _cut(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    def _in_loop(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()


class _Link:
    """A connection of a client, and ours to the server for it."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.proxy = proxy
        self.to_server = _Direction(proxy, lambda: proxy.to_server_s)
        self.to_client = _Direction(proxy, lambda: proxy.to_client_s)
        self._transports: list[asyncio.Transport] = []

    def opened(self, client: asyncio.Transport) -> None:
        """Take up a client's connection and make one to the server."""
        self.proxy._links.add(self)
        self.proxy.connections += 1
        self._transports.append(client)
        self.to_client.transport = client
        asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Side(self, is_client=False), LOOPBACK, self.proxy.target)
        except OSError:  # the server is down: so is the way to it
            self.reset()

    def connected(self, server: asyncio.Transport) -> None:
        """Pass on what the client has said already."""
        if self not in self.proxy._links:  # cut meanwhile
            server.abort()
            return
        self._transports.append(server)
        self.to_server.transport = server
        self.go_on()

    def go_on(self) -> None:
        """Pass on what may be."""
        self.to_server.flush()
        self.to_client.flush()
        self.ended()

    def ended(self) -> None:
        """Forget the link once it has ended on both sides, or on one and the other knows."""
        if not self.proxy.hangs and any(transport.is_closing() for transport in self._transports):
            self.proxy._links.discard(self)

    def reset(self) -> None:
        """End both connections at once, without a farewell."""
        self.proxy._links.discard(self)
        for transport in self._transports:
            sock = cast(socket.socket, transport.get_extra_info("socket"))
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            transport.abort()


class _Direction:
    """What passes one way, in order: chunks with the time from which they may, and None for the end."""

    def __init__(self, proxy: TcpProxy, delay_s: Callable[[], float]) -> None:
        self._proxy = proxy
        self._delay_s = delay_s
        self._held: deque[tuple[float, bytes | None]] = deque()
        self.transport: asyncio.Transport | None = None

    def take(self, chunk: bytes | None) -> None:
        """Pass a chunk on, now or when it may."""
        delay_s = self._delay_s()
        if self.transport is not None and not self._held and not delay_s and not self._proxy.hangs:
            self._write(chunk)
            return
        self._held.append((asyncio.get_running_loop().time() + delay_s, chunk))
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self.flush)
        else:
            self.flush()

    def flush(self) -> None:
        """Pass on what has waited for long enough; all of it where there is no delay any more."""
        loop = asyncio.get_running_loop()
        now = loop.time() if self._delay_s() else float("inf")
        while self._held and self.transport is not None and not self._proxy.hangs:
            if self._held[0][0] > now:
                loop.call_later(self._held[0][0] - now, self.flush)
                return
            self._write(self._held.popleft()[1])

    def _write(self, chunk: bytes | None) -> None:
        assert self.transport is not None
        if chunk is None:
            self.transport.close()
        else:
            self.transport.write(chunk)


class _Side(asyncio.Protocol):
    """One of the two connections of a link."""

    def __init__(self, link: _Link, *, is_client: bool = True) -> None:
        self._link = link
        self._is_client = is_client
        self._onward = link.to_server if is_client else link.to_client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.proxy._transports.add(transport)
        self._transport = transport
        begin = self._link.opened if self._is_client else self._link.connected
        begin(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._onward.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.proxy._transports.discard(self._transport)
        if self._link in self._link.proxy._links:
            self._onward.take(None)
        self._link.ended()


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((LOOPBACK, port))
    return sock
