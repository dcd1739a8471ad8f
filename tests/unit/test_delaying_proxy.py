"""The proxy that makes calls of the benchmarks as slow as on AWS: it adds its delay once, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.delay import CallTimes, DelayingProxy, delay_figures
from sosw_celery.local.servers import LOOPBACK

ROOT = Path(__file__).parents[2]
DELAY_MS = 1000
#: Calls of a test, or chunks of an answer: one after the other their delays would take twice as long as is allowed.
TIMES = 20
LONGEST_S = TIMES * DELAY_MS / 1000 / 2
CHUNK = b"x" * 1000
REQUEST, LARGE_REQUEST = b"request\n", b"large\n"
#: More than all sockets on the way hold.
LARGE = os.urandom(20_000_000)

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def before(serve: Serve, delay_ms: int = DELAY_MS) -> Iterator[DelayingProxy]:
    """The proxy in front of a server that does this with each connection."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the proxy has ended
                serve(self.request)

    with socketserver.ThreadingTCPServer((LOOPBACK, 0), Handler) as server:
        server.daemon_threads = True  # connections that are open at the end are not waited for
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with DelayingProxy(SimpleNamespace(port=server.server_address[1]), delay_ms) as proxy:
                yield proxy
        finally:
            server.shutdown()
            thread.join()


def client_of(proxy: DelayingProxy) -> socket.socket:
    """A connection through the proxy."""
    return socket.create_connection((LOOPBACK, proxy.port), timeout=60)


def received(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes that come, or fewer if the connection ends."""
    data = bytearray()
    while len(data) < size and (chunk := connection.recv(1 << 16)):
        data += chunk
    return bytes(data)


def answer_in_chunks(connection: socket.socket) -> None:
    """Answer each request by chunks that arrive one by one."""
    while connection.recv(len(REQUEST)):
        for _ in range(TIMES):
            connection.sendall(CHUNK)
            time.sleep(0.005)


def echo(connection: socket.socket) -> None:
    """Send back what comes."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def test_an_answer_is_late_once_however_many_chunks_it_has() -> None:
    """Each answer on a connection is whole and comes the delay later, and not that for each of its chunks."""
    with before(answer_in_chunks) as proxy, client_of(proxy) as client:
        for _ in range(2):
            began = time.monotonic()
            client.sendall(REQUEST)
            assert received(client, TIMES * len(CHUNK)) == TIMES * CHUNK
            assert DELAY_MS / 1000 <= time.monotonic() - began < LONGEST_S


def test_calls_side_by_side_do_not_wait_for_one_another() -> None:
    """Many calls at once take the delay once altogether, also beside a client that does not read its long answer."""

    def answer(connection: socket.socket) -> None:
        while request := connection.recv(len(REQUEST)):
            connection.sendall(LARGE if request == LARGE_REQUEST else request)

    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(before(answer))
        deaf, *clients = (stack.enter_context(client_of(proxy)) for _ in range(TIMES + 1))
        deaf.sendall(LARGE_REQUEST)
        began = time.monotonic()
        for _ in range(2):
            for client in clients:
                client.sendall(REQUEST)
            for client in clients:
                assert received(client, len(REQUEST)) == REQUEST
        assert 2 * DELAY_MS / 1000 <= time.monotonic() - began < LONGEST_S
        assert received(deaf, len(LARGE)) == LARGE


def test_a_request_goes_on_at_once() -> None:
    """The delay is on the way back alone: the server has the request before it."""
    arrived = threading.Event()

    def take(connection: socket.socket) -> None:
        assert connection.recv(len(REQUEST)) == REQUEST
        arrived.set()

    with before(take, delay_ms=60_000) as proxy, client_of(proxy) as client:
        client.sendall(REQUEST)
        assert arrived.wait(30)


def test_all_passes_in_its_order() -> None:
    """Small pieces by the thousand and megabytes at once come back as they were sent."""
    lines = [b"%d\n" % number for number in range(5000)]
    with before(echo, delay_ms=20) as proxy, client_of(proxy) as client:

        def send() -> None:
            for line in lines:
                client.sendall(line)
            client.sendall(LARGE)

        thread = threading.Thread(target=send)
        thread.start()
        expected = b"".join(lines) + LARGE
        assert received(client, len(expected)) == expected
        thread.join()


def test_the_end_of_a_connection_passes_after_what_was_sent() -> None:
    """A client gets all of an answer before it sees that the server has closed the connection."""
    with before(lambda connection: connection.sendall(CHUNK), delay_ms=50) as proxy, client_of(proxy) as client:
        assert received(client, len(CHUNK) + 1) == CHUNK


@pytest.mark.parametrize("leaves_early", [False, True])
def test_a_server_learns_that_its_client_is_gone(leaves_early: bool) -> None:
    """Whoever closes a connection leaves none to the engine behind, also before the proxy has made it."""
    arrived, gone = threading.Event(), threading.Event()

    def wait(connection: socket.socket) -> None:
        assert received(connection, len(REQUEST)) == REQUEST
        arrived.set()
        assert not connection.recv(1)
        gone.set()

    with before(wait) as proxy:
        with client_of(proxy) as client:
            client.sendall(REQUEST)
            assert leaves_early or arrived.wait(30)
        assert gone.wait(30)


def test_the_rest_of_an_answer_that_nobody_waits_for_disturbs_no_other() -> None:
    """A client that goes before all of its answer is due takes none of the others with it."""

    def answer_twice(connection: socket.socket) -> None:
        while request := connection.recv(len(REQUEST)):
            connection.sendall(request)
            time.sleep(DELAY_MS / 1000 / 2)  # when the first half is due, the proxy has the second
            connection.sendall(request)

    with before(answer_twice) as proxy, client_of(proxy) as other:
        with client_of(proxy) as client:
            client.sendall(REQUEST)
            assert received(client, len(REQUEST)) == REQUEST
        other.sendall(REQUEST)
        assert received(other, 2 * len(REQUEST)) == 2 * REQUEST


def test_where_no_server_is_a_client_learns_it() -> None:
    """The connection ends instead of waiting for ever; the proxy goes on."""
    with socket.socket() as unused:
        unused.bind((LOOPBACK, 0))
        with DelayingProxy(SimpleNamespace(port=unused.getsockname()[1]), DELAY_MS) as proxy:
            for _ in range(2):
                with client_of(proxy) as client, contextlib.suppress(ConnectionResetError):
                    assert not client.recv(1)


def is_taken(port: int) -> bool:
    """Return whether somebody takes connections there."""
    try:
        socket.create_connection((LOOPBACK, port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_the_proxy_ends_with_its_owner() -> None:
    """Whatever ends the process that started it, a signal that nothing can catch included."""
    code = (
        "from types import SimpleNamespace; from benchmarks.delay import DelayingProxy\n"
        "with DelayingProxy(SimpleNamespace(port=1), 5) as proxy: print(proxy.port, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        port = int(owner.stdout.readline())
        assert is_taken(port)
        owner.send_signal(signal.SIGKILL)
    while is_taken(port):
        time.sleep(0.01)


def answer_calls(connection: socket.socket) -> None:
    """Answer each call of DynamoDB with nothing."""
    request = b""
    while data := connection.recv(1 << 16):
        request += data
        if request.endswith(b"}"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            request = b""


def test_the_same_call_is_timed_with_the_delay_and_without() -> None:
    """As often both ways; with the proxy each takes the delay at least, and the proxy's own time is counted."""
    times = CallTimes()
    with before(answer_calls, delay_ms=200) as proxy, proxy.timing(times):
        while len(times.direct_s) < 2:
            time.sleep(0.01)
    assert len(times.delayed_s) == len(times.direct_s)
    assert min(times.delayed_s) >= 0.2
    assert times.elapsed_s > sum(times.delayed_s)
    assert 0 <= times.proxy_cpu_s < times.elapsed_s


def test_the_figure_of_a_delay_is_the_difference_of_the_medians() -> None:
    """Over all rounds, with medians, percentiles and the proxy's share of a core; without a delay there is none."""
    rounds = [CallTimes([0.006, 0.007], [0.001, 0.002], 10.0, 0.3), CallTimes([0.016], [0.001], 10.0, 0.5)]
    [figure] = delay_figures(5, rounds)
    assert figure.value == pytest.approx(6)
    assert figure.detail == (
        "3 calls while tasks ran, ms: with 7.00 (99th percentile 16.00), without 1.00 (99th percentile 2.00); "
        "the proxy took 4.0% of a core"
    )
    assert delay_figures(0, rounds) == []
