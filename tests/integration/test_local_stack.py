"""The local stack with real servers and real kills. Each owner that has to die is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import redis

from sosw_celery.local import (
    DynamoServer,
    EngineMissing,
    LocalStack,
    RedisServer,
    ServerFailed,
    engines,
    environment_of,
)
from tests.harness.client import Client

# An owner starts a stack, tells about it, and does what stands in its argument until its standard input ends.
OWNER = """
import json, os, sys
from sosw_celery.local import LocalStack
with LocalStack(sys.argv[1] or None) as stack:
    print(json.dumps({
        "environment": stack.environment(),
        "servers": [server.pid for server in stack._servers],
        "supervisors": [server._supervisor.pid for server in stack._servers],
    }), flush=True)
    exec(sys.argv[2])
"""
WAIT = "sys.stdin.read()"
WAIT_WITH_A_FORK = """
if os.fork():
    print("forked", flush=True)
sys.stdin.read()
"""
STOP_IN_A_FORK = """
child = os.fork()
if child == 0:
    for server in stack._servers:
        server.stop()
    stack.stop()
    os._exit(0)
print("fork ended with", os.waitpid(child, 0)[1], flush=True)
sys.stdin.read()
"""
ANSWER_CTRL_C = """
import redis
try:
    print("waiting", flush=True)
    sys.stdin.read()
except KeyboardInterrupt:
    print(redis.from_url(stack.redis_url).ping(), flush=True)
"""
GONE_TIMEOUT_S = 15


@dataclass
class Owner:
    """A process that owns a stack."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    servers: list[int]
    supervisors: list[int]

    def await_servers_gone(self) -> None:
        """Return once none of the servers listens any more."""
        for name in ("SOSW_REDIS_URL", "SOSW_DYNAMODB_ENDPOINT"):
            port = urlsplit(self.environment[name]).port
            await_true(lambda port=port: not listens(port), f"nothing listens at {port}")

    def next_line(self) -> str:
        """Return the next line that the owner prints, once it has."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def redis(self) -> redis.Redis:
        """Return a client of its Redis."""
        return redis.from_url(self.environment["SOSW_REDIS_URL"])

    def kill_everything(self) -> None:
        """Kill -9 the owner, what watches the servers, and the servers; at once, so that nobody can tidy up."""
        self.process.kill()
        for pid in [*self.supervisors, *self.servers]:
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()
        self.await_servers_gone()


@contextmanager
def owner_of(data_dir: Path | str = "", task: str = WAIT, **options: Any) -> Iterator[Owner]:
    """Run an owner; in the end its standard input closes, so that it ends by itself if it lives still."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir), task],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        assert process.stdout is not None
        yield Owner(process, **json.loads(process.stdout.readline()))


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds; fail when it does not within a time that suffices by far."""
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"still waiting that {what}"
        time.sleep(0.01)


def listens(port: int | None) -> bool:
    """Return whether a process listens at this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def table_names(endpoint: str) -> list[str]:
    """Return the names of the engine's tables."""
    client = boto3.client("dynamodb", endpoint_url=endpoint)
    try:
        return client.list_tables()["TableNames"]
    finally:
        client.close()


def make_table(endpoint: str, name: str) -> None:
    """Make a table with a hash key."""
    client = boto3.client("dynamodb", endpoint_url=endpoint)
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.close()


@pytest.fixture(autouse=True)
def _engines_present(redis_server: RedisServer, dynamodb_server: DynamoServer) -> None:
    """Skip at home where an engine is missing; in CI that fails."""


def test_a_server_in_memory_starts_empty_whatever_lies_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump of somebody else's Redis is neither loaded nor a reason not to start, and nothing is left behind."""
    (tmp_path / "dump.rdb").write_bytes(b"not of this Redis")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with RedisServer() as server, redis.from_url(server.url) as client:
        assert client.dbsize() == 0
        client.set("a", 1)
        assert client.config_get("dir")["dir"] != str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dump.rdb"]


def test_both_servers_answer_inside_the_block_and_none_listens_after_it() -> None:
    """Inside the block both servers answer; after it nothing listens at their ports."""
    with LocalStack() as stack:
        with redis.from_url(stack.redis_url) as client:
            assert client.ping()
        assert table_names(stack.dynamodb_endpoint) == []
    assert not listens(urlsplit(stack.redis_url).port)
    assert not listens(urlsplit(stack.dynamodb_endpoint).port)


def test_a_stack_in_memory_leaves_no_file(tmp_path: Path) -> None:
    """A stack without a data directory leaves nothing behind, not even after a write and a clean end."""
    with owner_of(env={**os.environ, "TMPDIR": str(tmp_path)}) as owner, owner.redis() as client:
        client.set("a", "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("data", [True, False], ids=["data-dir", "memory"])
def test_servers_end_when_a_signal_kills_their_owner(number: signal.Signals, data: bool, tmp_path: Path) -> None:
    """However the owner is killed, its servers end by themselves."""
    with owner_of(tmp_path if data else "") as owner:
        owner.process.send_signal(number)
        owner.process.communicate()
        assert owner.process.returncode == -number
        owner.await_servers_gone()


def test_servers_end_though_a_fork_of_their_dead_owner_lives_on() -> None:
    """A fork that inherited the owner's pipe, as pool processes do, does not keep the servers alive."""
    with owner_of(task=WAIT_WITH_A_FORK) as owner:
        assert owner.next_line() == "forked"
        owner.process.kill()
        owner.process.wait()
        owner.await_servers_gone()


def test_ctrl_c_reaches_the_owner_first_and_stops_the_servers_after_it() -> None:
    """Ctrl-C in a terminal goes to the whole process group: the servers answer until the owner's block has ended."""
    with owner_of(task=ANSWER_CTRL_C, start_new_session=True) as owner:
        assert owner.next_line() == "waiting"
        os.killpg(owner.process.pid, signal.SIGINT)
        output, _ = owner.process.communicate()
        assert output.strip() == "True"
        assert owner.process.returncode == 0
        owner.await_servers_gone()


def test_data_survives_a_kill_of_everything_at_the_same_addresses(tmp_path: Path) -> None:
    """What the servers acknowledged before a kill -9 of all processes is there in the next stack, at the same ports."""
    with owner_of(tmp_path) as owner, owner.redis() as client:
        client.set("kept", "yes")
        make_table(owner.environment["SOSW_DYNAMODB_ENDPOINT"], "kept_table")
        Path(urlsplit(owner.environment["SOSW_QUEUE_BUCKET"]).path, "part").write_text("row")
        owner.kill_everything()
    with LocalStack(tmp_path) as stack, redis.from_url(stack.redis_url) as client:
        assert client.get("kept") == b"yes"
        assert table_names(stack.dynamodb_endpoint) == ["kept_table"]
        assert Path(urlsplit(stack.queue_bucket).path, "part").read_text() == "row"
        assert {**owner.environment, **stack.environment()} == owner.environment


def test_a_new_stack_takes_over_from_servers_that_were_left_alone(tmp_path: Path) -> None:
    """Servers whose owner and supervisor were killed live on; the next stack ends them and has their data."""
    with owner_of(tmp_path) as owner:
        with owner.redis() as client:
            client.set("kept", "yes")
        for pid in owner.supervisors:
            os.kill(pid, signal.SIGKILL)
        owner.process.kill()
        owner.process.communicate()
        assert owner.redis().ping(), "the leftover that this test is about"
    with LocalStack(tmp_path) as stack, redis.from_url(stack.redis_url) as client:
        assert client.get("kept") == b"yes"
        assert client.info("server")["process_id"] not in owner.servers


def test_a_stack_whose_owner_lives_is_not_taken_over(tmp_path: Path) -> None:
    """A second stack on the same directory is refused with the first one's process id, and the first goes on."""
    with owner_of(tmp_path) as owner:
        with pytest.raises(ServerFailed, match=f"used by process {owner.process.pid}"):
            LocalStack(tmp_path).start()
        assert owner.redis().ping()
        assert table_names(owner.environment["SOSW_DYNAMODB_ENDPOINT"]) == []


def test_another_process_finds_a_running_stack_by_its_directory(tmp_path: Path) -> None:
    """`environment_of` tells the running stack's addresses, and None before and after."""
    assert environment_of(tmp_path) is None
    with owner_of(tmp_path) as owner:
        assert environment_of(tmp_path) == owner.environment
        owner.kill_everything()
    # A killed supervisor's lock goes when the kernel is done with it.
    await_true(lambda: environment_of(tmp_path) is None, "the dead stack to be no running one")


@pytest.mark.parametrize("server_class", [RedisServer, DynamoServer])
def test_a_wanted_port_that_is_taken_gives_way_to_a_free_one(server_class: type[RedisServer | DynamoServer]) -> None:
    """A server takes the port that it should when that is free, else another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with server_class(port=taken) as server:
            assert server.port != taken


@pytest.mark.parametrize("server_class", [RedisServer, DynamoServer])
def test_a_port_lost_between_choice_and_bind_is_replaced(
    server_class: type[RedisServer | DynamoServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another process takes the chosen port first, the server is started again at another port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr("sosw_celery.local.servers._is_free", lambda _: True)
        with server_class(port=taken) as server:
            assert server.port != taken


def test_another_redis_at_the_chosen_port_is_not_taken_for_ours(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another Redis answers at the port that was chosen, ours is started elsewhere, however quick the other is."""
    monkeypatch.setattr("sosw_celery.local.servers._is_free", lambda _: True)
    with RedisServer(port=redis_server.port) as server, redis.from_url(server.url) as client:
        assert server.port != redis_server.port
        assert client.info("server")["process_id"] == server.pid


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error of a server that ends at once carries what it wrote to its log."""
    (tmp_path / "appendonly.aof").write_text("this is no log of writes\n")
    (tmp_path / "appendonlydir").write_text("nor is this a directory")
    with pytest.raises(ServerFailed, match=r"redis did not start: .+") as caught:
        RedisServer(tmp_path).start()
    assert "exit status" not in str(caught.value)


def test_a_failed_start_leaves_no_server_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second server of a stack cannot start, the first is stopped."""
    stack = LocalStack(tmp_path)

    def fail(_: DynamoServer) -> None:
        raise ServerFailed("dynamodb", "broken")

    monkeypatch.setattr(DynamoServer, "start", fail)
    with pytest.raises(ServerFailed, match="broken"):
        stack.start()
    assert not listens(urlsplit(stack.redis_url).port)


def test_a_fork_of_the_owner_does_not_stop_the_servers() -> None:
    """`stop` in a forked child leaves the servers to the process that started them."""
    with owner_of(task=STOP_IN_A_FORK) as owner, owner.redis() as client:
        assert owner.next_line() == "fork ended with 0"
        assert client.ping()
        assert Path(urlsplit(owner.environment["SOSW_QUEUE_BUCKET"]).path).is_dir()


def test_moto_stands_in_with_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str) -> None:
    """Where dynoxide is not to be had, moto's server takes the rows of a job, and a warning says what to install."""

    def missing() -> Path:
        raise EngineMissing("dynoxide", "npm is not on PATH", "install npm")

    monkeypatch.setattr(engines, "dynoxide", missing)
    server = DynamoServer()
    with pytest.warns(RuntimeWarning, match="install npm"):
        server.start()
    try:
        assert table_names(server.endpoint) == []
        section = {
            "redis_url": redis_url,
            "redis_prefix": tmp_path.name,
            "dynamodb_endpoint": server.endpoint,
            "queue_bucket": tmp_path.as_uri(),
            "job_schema": {"chunkable_attrs": ["value"]},
            "labourers": {"note": {}},
        }
        client = Client(section, redis_url)
        summary = client.schedule({"lambda_name": "note", "isolate_values": True, "values": [*range(60)]})
        assert (summary.tasks, summary.written) == (60, 60)
        client.close()
    finally:
        server.stop()
