"""Redis in another life: started again with an old snapshot, or a replica that became the primary."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import redis

from sosw_celery.local import RedisServer

__all__ = ["SnapshotRedis", "demote", "follow"]

#: Seconds within which a replica on this machine follows.
FOLLOWS_S = 20.0


class SnapshotRedis(RedisServer):
    """A real Redis as it comes out of its box: it keeps snapshots, here when it is told to, and no file of writes."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)

    def command(self) -> list[str]:
        """Return redis-server without an append-only file."""
        words = super().command()
        words[words.index("--appendonly") + 1] = "no"
        return words

    def come_back(self) -> None:
        """Die without a word, and start again at the same port with the last snapshot."""
        self.stop()
        self.start()


def follow(primary: RedisServer, replica: RedisServer) -> None:
    """Make one server the replica of the other, and wait until it has all of it."""
    with redis.from_url(replica.url) as client:
        client.replicaof("127.0.0.1", primary.port)
        _wait(lambda: client.info("replication").get("master_link_status") == "up")


def demote(primary: RedisServer, replica: RedisServer) -> None:
    """Fail over: the replica is the primary from now on, and the primary lives on as its replica."""
    with redis.from_url(replica.url) as client:
        client.replicaof("NO", "ONE")
    with redis.from_url(primary.url) as client:
        client.replicaof("127.0.0.1", replica.port)
        _wait(lambda: client.info("replication")["role"] == "slave")


def _wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + FOLLOWS_S
    while not condition():
        assert time.monotonic() < end, f"no replica within {FOLLOWS_S} s"
        time.sleep(0.02)
