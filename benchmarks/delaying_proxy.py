"""Passes everything on to a server of this machine, and what that sends back so many milliseconds later.

    python delaying_proxy.py PORT TARGET_PORT MILLISECONDS

What a client sends goes on at once. Each chunk of an answer waits by itself, from when it came: an answer in ten chunks
is as late as one in a single chunk, calls side by side do not wait for one another, and as much passes at a time as
without the proxy. The way through the proxy takes some time as well, which is not known here.

It shares its cores with what is measured. So it is a bare loop, which takes half of the CPU time that asyncio would.
Only the standard library is used, so that it starts in some milliseconds.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from collections import deque
from typing import Any

LOOPBACK = "127.0.0.1"
#: Printed once connections are taken.
READY = "connections are taken"
RECEIVED_AT_ONCE = 65_536


class _End:
    """One of the two sockets of a link: that of the client, or that to the server."""

    def __init__(self, sock: socket.socket, *, is_client: bool) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_client = is_client
        #: What the socket did not take yet.
        self.unsent = bytearray()
        #: Nothing follows what is unsent.
        self.is_last = False
        self._sock = sock

    def fileno(self) -> int:
        """Return the socket's file descriptor, for `select`."""
        return self._sock.fileno()

    def receive(self) -> bytes:
        """Return what has come; nothing: the connection has ended."""
        try:
            return self._sock.recv(RECEIVED_AT_ONCE)
        except ConnectionError:
            return b""

    def send(self, data: bytes) -> None:
        """Send what the socket takes, and keep the rest."""
        self.unsent += data
        # That a connection has ended shows when it is read.
        with contextlib.suppress(BlockingIOError, ConnectionError):
            del self.unsent[: self._sock.send(self.unsent)]

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class _Proxy:
    """Listens at `port` and passes on to `target`, another port of this machine."""

    def __init__(self, port: int, target: int, delay_s: float) -> None:
        self._target = target
        self._delay_s = delay_s
        self._listener = socket.create_server((LOOPBACK, port), backlog=128)
        #: Each open end, and the other one of its link.
        self._others: dict[_End, _End] = {}
        #: Answers, with the time at which each is due, and for whom. All wait for as long, so the first is due first.
        #: Nothing: the end of the connection.
        self._held: deque[tuple[float, _End, bytes]] = deque()

    def serve(self) -> None:
        """Pass everything on until the process ends."""
        while True:
            # epoll counts in whole milliseconds, rounded up; that would be another half a millisecond for each call.
            wait_s = max(0.0, self._held[0][0] - time.monotonic()) if self._held else None
            sources: list[Any] = [self._listener, *self._others]
            readable, writable, _ = select.select(sources, [end for end in self._others if end.unsent], (), wait_s)
            for end in writable:
                end.send(b"")
                self._close_if_done(end)
            for end in readable:
                if end is self._listener:
                    self._accept()
                elif end in self._others:  # not closed in this turn
                    self._take(end)
            self._pass_on()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        try:
            onward = socket.create_connection((LOOPBACK, self._target))
        except OSError:  # no server there: the client learns it
            sock.close()
            return
        client, server = _End(sock, is_client=True), _End(onward, is_client=False)
        self._others |= {client: server, server: client}

    def _take(self, end: _End) -> None:
        data, other = end.receive(), self._others[end]
        if not end.is_client:
            self._held.append((time.monotonic() + self._delay_s, other, data))
            if not data:  # it is not looked at any more, and closed with the client's end
                del self._others[end]
        elif data:
            other.send(data)
        else:
            self._close(end)

    def _pass_on(self) -> None:
        """Send the answers that are due."""
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            _, client, data = self._held.popleft()
            if client in self._others:
                client.is_last = not data
                client.send(data)
                self._close_if_done(client)

    def _close_if_done(self, end: _End) -> None:
        if end.is_last and not end.unsent:
            self._close(end)

    def _close(self, end: _End) -> None:
        """Close both ends of a link."""
        for one in (end, self._others.pop(end)):
            self._others.pop(one, None)
            one.close()


if __name__ == "__main__":
    proxy = _Proxy(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) / 1000)
    print(READY, flush=True)
    proxy.serve()
