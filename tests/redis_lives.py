"""Redis in another life: started again with an old snapshot, a replica that became the primary, or in another time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import redis

from sosw_celery.local import RedisServer
from tests.faults.injectors.clocks import wrong_clock

__all__ = ["SnapshotRedis", "WrongRedis", "demote", "follow"]

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


class WrongRedis(RedisServer):
    """A real Redis, in memory, whose clock can be moved; what it measures by its monotonic one stays right."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._clock = directory / "clock"
        self.set_clock(0)

    def command(self) -> list[str]:
        """Return redis-server in another time."""
        settings = {**wrong_clock(0), "FAKETIME_TIMESTAMP_FILE": str(self._clock)}
        del settings["FAKETIME"]
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in settings.items()), *super().command()]

    def set_clock(self, off_s: int) -> None:
        """Have its clock so many seconds fast from now on; negative is slow."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{off_s:+d}")
        new.replace(self._clock)


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
