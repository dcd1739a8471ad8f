"""What goes wrong on the way to Redis, and with the broker's messages in it, is what the injectors say."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from kombu import Connection, Message
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults.injectors.messages import UNACKED, UNACKED_INDEX, Messages, OldMessages
from tests.faults.injectors.redis_server import Redis
from tests.faults.injectors.tcp_proxy import LOOPBACK, TcpProxy

#: CPU time of the proxy for one command and its answer; half a millisecond leaves room for 2,000 a second.
CPU_PER_COMMAND_S = 0.0005


@pytest.fixture
def proxy(redis_url: str) -> Iterator[TcpProxy]:
    """A proxy in front of an empty Redis."""
    port = urlsplit(redis_url).port
    assert port is not None
    with TcpProxy(port) as proxy:
        yield proxy


@contextlib.contextmanager
def client_of(port: int, timeout_s: float = 5) -> Iterator[redis.Redis]:
    """A client that tries once."""
    never = Retry(NoBackoff(), retries=0)
    with redis.Redis(host=LOOPBACK, port=port, socket_timeout=timeout_s, retry=never) as client:
        yield client


def test_commands_pass_and_cost_little(proxy: TcpProxy) -> None:
    """Large and small, alone and by the hundred, from several clients at once: all comes through, cheaply."""
    clients, rounds = 4, 250

    def use(name: str) -> None:
        with client_of(proxy.port) as client:
            for number in range(rounds):
                assert client.incr(name) == number + 1
            pipeline = client.pipeline(transaction=False)
            for number in range(500):
                pipeline.set(f"{name}{number}", "x" * number)
            assert all(pipeline.execute())
            large = bytes(range(256)) * 20_000
            client.set(f"{name} large", large)
            assert client.get(f"{name} large") == large

    before = proxy.cpu_s()
    threads = [threading.Thread(target=use, args=(f"client {number} ",)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.connections == clients
    with client_of(proxy.port) as client:
        assert [client.get(f"client {number} ") for number in range(clients)] == [b"250"] * clients
    assert (proxy.cpu_s() - before) / (clients * rounds) < CPU_PER_COMMAND_S


def test_cut_resets_every_connection_and_takes_new_ones(proxy: TcpProxy) -> None:
    """Clients get an error at once, also those that wait for an answer; then they may come again."""
    with (
        client_of(proxy.port) as client,
        client_of(proxy.port) as waiting,
        socket.create_connection((LOOPBACK, proxy.port)) as plain,
    ):
        client.ping()
        errors: list[Exception] = []

        def wait() -> None:
            try:
                waiting.blpop(["nothing"], timeout=30)
            except redis.ConnectionError as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while proxy.connections < 3:
            time.sleep(0.01)
        began = time.monotonic()
        assert proxy.cut() == 3
        thread.join(5)
        assert time.monotonic() - began < 2
        assert len(errors) == 1
        with pytest.raises(ConnectionResetError):
            plain.recv(1)
        assert client.ping()


def test_refuse_takes_no_connection_until_accept(proxy: TcpProxy) -> None:
    """While it refuses, the port says no at once; afterwards it is the same port."""
    with client_of(proxy.port) as client:
        client.set("a", 1)
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(redis.ConnectionError, match="refused"):
                client.get("a")
        proxy.accept()
        assert client.get("a") == b"1"


def test_hang_swallows_everything_until_it_heals(proxy: TcpProxy, redis_url: str) -> None:
    """No answer, no error, no farewell: the server goes on to believe in a client that is gone, and serves it."""
    with client_of(proxy.port, timeout_s=0.2) as client, redis.from_url(redis_url) as direct:
        client.set("a", 1)
        proxy.hang()
        with pytest.raises(redis.TimeoutError):
            client.set("a", 2)
        with pytest.raises(redis.TimeoutError):  # a new connection
            client.get("a")
        assert direct.get("a") == b"1"
        proxy.heal()
        while direct.get("a") != b"2":  # what was on its way arrives, though its sender has given up
            time.sleep(0.01)
        assert client.get("a") == b"2"


def test_delay_holds_back_each_direction_and_keeps_the_order(proxy: TcpProxy) -> None:
    """A command takes as much longer as both directions are slower, and nothing overtakes."""
    with client_of(proxy.port) as client:
        client.ping()
        for to_server_s, to_client_s in ((0.15, 0), (0, 0.15), (0.1, 0.1)):
            proxy.delay(to_server_s=to_server_s, to_client_s=to_client_s)
            began = time.monotonic()
            client.ping()
            assert to_server_s + to_client_s <= time.monotonic() - began < 3
        threads = [threading.Thread(target=client.ping) for _ in range(10)]
        for thread in threads:
            thread.start()
        pipeline = client.pipeline(transaction=False)
        for number in range(200):
            pipeline.rpush("order", number)
        assert pipeline.execute() == list(range(1, 201))
        for thread in threads:
            thread.join()
        proxy.heal()
        assert client.lrange("order", 0, -1) == [str(number).encode() for number in range(200)]


def test_a_proxy_that_ends_leaves_nothing_open() -> None:
    """Also of links whose client is gone while the server takes nothing: Python would warn of them in another test."""
    gc.collect()
    with warnings.catch_warnings(record=True) as warned, socket.create_server((LOOPBACK, 0)) as stubborn:
        warnings.simplefilter("always")
        with TcpProxy(stubborn.getsockname()[1]) as proxy:
            with socket.create_connection((LOOPBACK, proxy.port)) as client:
                client.sendall(bytes(20_000_000))  # more than the kernel takes for a server that does not read
            while proxy._links:
                time.sleep(0.01)
        del proxy
        gc.collect()
    assert not [warning for warning in warned if "transport" in str(warning.message)]


def test_a_redis_comes_back_with_what_it_held_then_or_with_nothing(tmp_path: Path) -> None:
    """At the same port, as another server, with its last snapshot; what came later is gone, and so may be all."""
    with Redis(tmp_path) as server, client_of(server.port) as client:
        client.set("before", "1")
        server.keep()
        client.set("after", "1")
        lives = [client.info("server")["run_id"]]
        for empty, there in ((False, [b"before"]), (True, [])):
            server.kill()
            server.come_back(empty=empty)
            client.connection_pool.disconnect()
            assert client.keys() == there
            lives.append(client.info("server")["run_id"])
    assert len(set(lives)) == 3


def test_a_replica_takes_the_place_of_its_primary_which_lives_on(tmp_path: Path) -> None:
    """What is written after the replica has left is lost; clients that stay at the old primary find it read-only."""
    with contextlib.ExitStack() as stack:
        primary, replica = (stack.enter_context(Redis(tmp_path / name)) for name in ("primary", "replica"))
        way = stack.enter_context(TcpProxy(primary.port))
        stays, comes = (stack.enter_context(client_of(way.port)) for _ in range(2))
        stays.set("kept", "1")
        replica.follow(primary)
        replica.lead()
        stays.set("lost", "1")
        primary.follow(replica)
        way.target = replica.port
        with pytest.raises(redis.ReadOnlyError):
            stays.set("more", "1")
        comes.set("more", "1")
        assert sorted(comes.keys()) == [b"kept", b"more"]


def test_a_server_that_is_down_looks_down(redis_url: str) -> None:
    """Behind the proxy there may be nobody: clients get an error, not silence."""
    with TcpProxy(_nobody()) as proxy, client_of(proxy.port) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def _nobody() -> int:
    with TcpProxy(1) as gone:
        return gone.port


# ---- messages


@pytest.fixture
def broker(redis_url: str) -> Iterator[Connection]:
    """A connection to the broker."""
    with Connection(redis_url) as connection:
        yield connection


@pytest.fixture
def direct(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the broker's Redis."""
    with redis.from_url(redis_url) as client:
        yield client


def publish(broker: Connection, queue: str, count: int) -> None:
    """Put numbered messages on a queue."""
    with contextlib.closing(broker.SimpleQueue(queue)) as simple:
        for number in range(count):
            simple.put({"number": number})


@contextlib.contextmanager
def taken(broker: Connection, queue: str, count: int) -> Iterator[list[Message]]:
    """Take so many messages and leave it to the test to acknowledge them."""
    with contextlib.closing(broker.SimpleQueue(queue)) as simple:
        yield [simple.get(timeout=5) for _ in range(count)]


def numbers(messages: list[Message]) -> Counter[int]:
    """Return which messages these are."""
    return Counter(message.payload["number"] for message in messages)


def test_drop_loses_waiting_and_unacknowledged_messages_of_one_queue(broker: Connection, direct: redis.Redis) -> None:
    """All of a queue's messages are gone, wherever they are, and no other's."""
    publish(broker, "note", 10)
    publish(broker, "other", 2)
    with taken(broker, "note", 3), taken(broker, "other", 1) as others:
        assert Messages(direct, 1).drop("note") == 10
        assert direct.llen("note") == 0
        assert direct.hkeys(UNACKED) == direct.zrange(UNACKED_INDEX, 0, -1) == [others[0].delivery_tag.encode()]
    assert (direct.llen("other"), direct.llen("note")) == (1, 0)


def test_drop_takes_a_share_by_its_seed_and_keeps_the_order(broker: Connection, direct: redis.Redis) -> None:
    """A share of a queue is lost, the same for the same seed; the rest stands as it stood."""
    left = []
    for seed in (1, 1, 2):
        publish(broker, "note", 40)
        dropped = Messages(direct, seed).drop("note", 0.5)
        with taken(broker, "note", 40 - dropped) as rest:
            left.append([message.payload["number"] for message in rest])
            for message in rest:
                message.ack()
        assert 5 < dropped < 35
    assert left[0] == left[1] == sorted(left[0])
    assert left[0] != left[2]


def test_duplicates_are_delivered_and_acknowledged_for_themselves(broker: Connection, direct: redis.Redis) -> None:
    """Every message comes twice, also one that a worker has at that moment; acknowledging all of them leaves none."""
    publish(broker, "note", 10)
    with taken(broker, "note", 3) as first:
        assert Messages(direct, 1).duplicate("note") == 10
        with taken(broker, "note", 17) as rest:
            assert numbers(first + rest) == dict.fromkeys(range(10), 2)
            assert len({message.delivery_tag for message in first + rest}) == 20
            for message in first + rest:
                message.ack()
    assert direct.llen("note") == direct.hlen(UNACKED) == 0
    publish(broker, "note", 10)
    assert Messages(direct, 1).duplicate("note", at_most=4) == 4
    assert direct.llen("note") == 14


def test_old_messages_come_again(broker: Connection, direct: redis.Redis) -> None:
    """Messages that were acknowledged long ago are delivered once more, as often as asked for."""
    with OldMessages(direct, ["note"], seed=1) as old:
        publish(broker, "note", 10)
        while old.kept("note") < 10:
            time.sleep(0.01)
        with taken(broker, "note", 10) as first:
            for message in first:
                message.ack()
        assert direct.llen("note") == 0
        assert old.deliver_again("note", 6) == 6
        assert old.deliver_again("note", 99) == 10
        with taken(broker, "note", 16) as again:
            assert sorted(numbers(again).values()) == [1] * 4 + [2] * 6
            for message in again:
                message.ack()
        assert direct.hlen(UNACKED) == 0
