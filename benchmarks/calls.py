"""How long each call to DynamoDB and Redis takes that a task needs on its way, stage by stage.

    python -m benchmarks.calls [--tasks 2000]

Runs the services themselves, without Celery, in one process and on servers that have nothing else to do: these are the
times of the calls alone. A time is from before the request is made to after the answer is read, in the client. Tasks
are claimed and closed one by one, and then in lines, where the close of one is the claim of the next.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from benchmarks.figures import Figure, main, median, percentile
from benchmarks.life import STAGES, Life
from benchmarks.system import Servers

FULL = {"tasks": 2000}
QUICK = {"tasks": 200}

#: The stage in which tasks are closed and claimed, and what it is called where it does both.
CLOSE, GO_ON = "close", "close and claim in a line"
#: Left out until every connection is there.
WARM_TASKS = 100


class Watch:
    """Times calls, by stage and name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._stage = ""

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Take what is called for the stage's."""
        self._stage = stage
        yield

    def note(self, name: str, started: float) -> None:
        """Keep the time since `started`, of `time.perf_counter`."""
        self.seconds[self._stage, name].append(time.perf_counter() - started)

    def attach(self, client: Any) -> None:
        """Have every call of a client of AWS timed."""
        client.meta.events.register("before-parameter-build.dynamodb", self._begin)
        client.meta.events.register("after-call.dynamodb", self._end)

    def _begin(self, context: dict[str, Any], **_: Any) -> None:
        context["benchmark_started"] = time.perf_counter()

    def _end(self, model: Any, context: dict[str, Any], **_: Any) -> None:
        self.note(model.name, context["benchmark_started"])


class WatchedRedis(redis.Redis):
    """A client of Redis whose calls are timed."""

    calls_noted_by: Watch

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute the command."""
        started = time.perf_counter()
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # as in redis-py
        finally:
            self.calls_noted_by.note(f"Redis {args[0]}", started)


def measure(tasks: int) -> list[Figure]:
    """Return the median time of each call."""
    with Servers() as servers:
        one_by_one, in_lines = (_watched(servers, tasks, in_lines=in_lines) for in_lines in (False, True))
    return [*_figures(one_by_one, STAGES, tasks), *_figures(in_lines, (CLOSE,), tasks, GO_ON)]


def _watched(servers: Servers, tasks: int, *, in_lines: bool) -> Watch:
    """Return the times of the calls of so many tasks."""
    watch = Watch()
    client = WatchedRedis(port=servers.redis.port)
    client.calls_noted_by = watch
    life = Life(
        servers.redis.url, servers.dynamodb.endpoint, servers.directory, watch.during, client, in_lines=in_lines
    )
    for dynamodb in life.clients:
        watch.attach(dynamodb)
    for count in (WARM_TASKS, tasks):
        watch.seconds.clear()
        life.queue(count)
        life.run(count)
    return watch


def _figures(watch: Watch, stages: Sequence[str], tasks: int, label: str = "") -> list[Figure]:
    return [
        Figure(
            f"{label or stage}: {name}",
            1000 * median(seconds),
            "ms",
            detail=f"99th percentile {1000 * percentile(seconds, 0.99):.2f}; {len(seconds) / tasks:.3f} per task",
        )
        for stage in stages
        for (at, name), seconds in sorted(watch.seconds.items())
        if at == stage
    ]


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
