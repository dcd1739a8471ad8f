"""A Redis that may come back with what it held some time ago, follow another one, or live in another time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import redis

from tests.faults.injectors.clocks import ChangingClock
from tests.redis_lives import SnapshotRedis, follow

__all__ = ["Redis"]


class Redis(SnapshotRedis):
    """A real Redis that keeps snapshots when it is told to, and no file of writes.

    Parameters:
        directory: For its snapshot and its log.
        clock: What it lives by; None is the machine's.
    """

    def __init__(self, directory: Path, clock: ChangingClock | None = None) -> None:
        super().__init__(directory)
        self.directory = directory
        self.clock = clock

    def command(self) -> list[str]:
        """Return redis-server with its own clock."""
        words = super().command()
        if self.clock is None:
            return words
        return ["env", *(f"{name}={value}" for name, value in self.clock.environment.items()), *words]

    def kill(self) -> None:
        """Have it dead, without a word and with what it holds in memory."""
        os.kill(self.pid, signal.SIGKILL)

    def come_back(self, *, empty: bool = False) -> None:
        """Start again at the same port after a kill, with the last snapshot or with nothing.

        Raises:
            RuntimeError: Another process has the port.
        """
        port = self.port
        if empty:
            (self.directory / "dump.rdb").unlink(missing_ok=True)
        super().come_back()
        if self.port != port:
            raise RuntimeError(f"port {port} was taken while Redis was down")

    def keep(self) -> None:
        """Have what it holds now in its snapshot."""
        with redis.from_url(self.url) as client:
            client.save()

    def follow(self, primary: Redis) -> None:
        """Be the replica of another one, and have all that it holds: read-only, whatever clients are connected."""
        follow(primary, self)

    def lead(self) -> None:
        """Be a primary, with what it has got so far."""
        with redis.from_url(self.url) as client:
            client.replicaof("NO", "ONE")
