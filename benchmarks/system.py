"""Whole systems on this machine, for benchmarks: servers in memory, workers and beat, as `sosw-celery up` runs them.

Everything ends with the `with` block, or with the process that measures.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import redis

from benchmarks.delay import CallTimes, DelayingProxy
from benchmarks.parts import VARIABLE, settings_without
from benchmarks.plain import app
from benchmarks.spans import DIRECTORY_VARIABLE, Spans
from benchmarks.usage import Usage, usage_of
from sosw_celery.cli.processes import CeleryProcess, Processes, Role, beat, essentials, labourer_node
from sosw_celery.cli.up import ESSENTIALS_CONCURRENCY
from sosw_celery.local import DynamoServer, RedisServer
from tests.harness.client import Client, table_names

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LABOURER", "Plain", "Servers", "Side", "System"]

LABOURER = "timed"
#: Celery's own default for workers.
LOG_LEVEL = "WARNING"
ROOT = Path(__file__).parents[1]
POLL_S = 0.02
START_S = 60.0

#: Milliseconds that a call takes more by going through the proxy at all, while tasks run; what it did take is measured.
WAY_MS = 1


class Servers:
    """A Redis and a DynamoDB engine of a benchmark's own, in memory, and a directory.

    Parameters:
        delay_ms: That a call of a system takes more on its way to the engine and back; 0: nothing is in the way.
    """

    def __init__(self, delay_ms: int = 0) -> None:
        self._open = ExitStack()
        self.redis = RedisServer()
        self.dynamodb = DynamoServer()
        self._proxy = DelayingProxy(self.dynamodb, delay_ms - WAY_MS) if delay_ms else None
        self.directory = Path()

    def __enter__(self) -> Self:
        try:
            self._open.enter_context(self.redis)
            self._open.enter_context(self.dynamodb)
            if self._proxy:
                self._open.enter_context(self._proxy)
            self.directory = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="sosw-benchmark-")))
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def endpoint(self) -> str:
        """The address of DynamoDB for systems."""
        return (self._proxy or self.dynamodb).endpoint

    @contextmanager
    def timing_calls(self) -> Iterator[CallTimes]:
        """Have calls of DynamoDB timed in the background while the block runs, where they are delayed."""
        times = CallTimes()
        with self._proxy.timing(times) if self._proxy else nullcontext():
            yield times


class Side:
    """One of the systems that a benchmark compares: its processes, started one by one, and when their tasks ran.

    Parameters:
        environment: What its processes are told beside the environment of this one.
    """

    def __init__(self, servers: Servers, directory: Path, environment: Mapping[str, str]) -> None:
        self.servers = servers
        self.directory = directory
        self.spans = Spans(directory / "spans")
        told = {"PYTHONPATH": str(ROOT), DIRECTORY_VARIABLE: str(self.spans.directory), **environment}
        self.processes = Processes({**os.environ, **told}, directory)
        self._started: dict[str, CeleryProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.processes.end_now()
        with redis.from_url(self.servers.redis.url) as client:
            client.flushall()

    def start(self, role: Role) -> CeleryProcess:
        """Start a process."""
        process = self.processes.start(role, LOG_LEVEL)
        self._started[role.name] = process
        return process

    def usage(self) -> list[Usage]:
        """Return what each process and each server has used until now."""
        roots = {name: process.pid for name, process in self._started.items()}
        return usage_of({**roots, "Redis": self.servers.redis.pid, "DynamoDB engine": self.servers.dynamodb.pid})

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float, poll_s: float = POLL_S) -> None:
        """Wait until the condition holds.

        Raises:
            SystemExit: It does not in time, or a process has ended.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            ended = self.processes.ended()
            if ended or time.monotonic() > deadline:
                reason = f"{ended[0].role.name} has ended" if ended else f"not within {timeout_s:g} s"
                raise SystemExit(f"{what}: {reason}\n{self._tails()}")
            time.sleep(poll_s)

    def wait_for_runs(self, count: int, timeout_s: float) -> None:
        """Wait until so many runs have ended."""
        self.wait_for(lambda: self.spans.count() >= count, f"{count} runs", timeout_s)

    def _tails(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in self.directory.glob("*.log"))


@dataclass(frozen=True)
class _PlainRole(Role):
    """A process of the app that we compare with, started as ours are."""

    def command(self, log_level: str = LOG_LEVEL) -> list[str]:
        """Return the command line."""
        ours = super().command(log_level)
        return ["benchmarks.plain" if word == "sosw_celery" else word for word in ours]


class Plain(Side):
    """Plain Celery, with its own defaults, on the same Redis."""

    def __init__(self, servers: Servers) -> None:
        super().__init__(servers, _new_directory(servers), {"BENCHMARK_BROKER": servers.redis.url})

    def queue(self, tasks: int, milliseconds: int = 0) -> None:
        """Have so many messages in the broker, of tasks that are asleep for so long."""
        app.conf.update(broker_url=self.servers.redis.url)
        with app.connection_for_write() as connection:
            producer: Any = app.amqp.Producer(connection)  # the stubs know of no batches
            with producer, producer.batch():
                for _ in range(tasks):
                    app.tasks["timed"].apply_async((milliseconds,), producer=producer)

    def start_worker(self, concurrency: int) -> CeleryProcess:
        """Start a worker with so many processes."""
        return self.start(_PlainRole("plain", labourer_node("celery", concurrency).arguments))


class System(Side):
    """Our side: the tables, a client of them, and the processes.

    Parameters:
        slots: The cap of the labourer.
        endpoint: Of DynamoDB, where it is another than that of the servers.
        without: Parts that its processes do without (`benchmarks.parts`).
        section: Laid over the `sosw` section of the configuration.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        slots: int,
        endpoint: str | None = None,
        without: Sequence[str] = (),
        **section: Any,
    ) -> None:
        directory = _new_directory(servers)
        self.slots = slots
        self.section: dict[str, Any] = {
            "redis_url": servers.redis.url,
            "redis_prefix": directory.name,
            "dynamodb_endpoint": endpoint or servers.endpoint,
            "aws_region": "eu-west-1",
            "queue_bucket": (directory / "queue").as_uri(),
            "job_schema": {"chunkable_attrs": ["value"]},
            "labourers": {LABOURER: {"max_simultaneous_invocations": slots, "duration": 60}},
            "task_config": table_names(f"{directory.name}_"),
            **settings_without(without),
            **section,
        }
        told = {
            "CELERY_CONFIG_MODULE": "benchmarks.configuration",
            "BENCHMARK_SOSW": json.dumps(self.section),
            VARIABLE: ",".join(without),
        }
        super().__init__(servers, directory, told)
        self._client = Client(self.section, servers.redis.url)
        self.services = self._client.services

    # ---- processes

    def start_own(self) -> None:
        """Have the essentials and beat at work: hints of queued tasks wait in the broker when this returns."""
        self.start(essentials(ESSENTIALS_CONCURRENCY))
        self.start(beat(self.directory / "beat"))
        self.wait_for(lambda: any(self.directory.glob("beat?*")), "beat", START_S)
        self.wait_for(lambda: self.services.slots.look(LABOURER).ready == "ready", "the first pass", START_S)

    def start_node(self, concurrency: int) -> CeleryProcess:
        """Start a node of the labourer."""
        return self.start(labourer_node(LABOURER, concurrency))

    # ---- tasks

    def queue(self, tasks: int, milliseconds: int = 0) -> str:
        """Have so many tasks in the table, and return their job's id; nothing runs them before a node is there."""
        job = {
            "lambda_name": LABOURER,
            "milliseconds": milliseconds,
            "isolate_values": True,
            "values": list(range(tasks)),
        }
        summary = self._client.schedule(job)
        assert summary.tasks == tasks, f"{summary.tasks} of {tasks} tasks"
        return summary.job_id

    def wait_for_end(self, job_id: str, timeout_s: float) -> None:
        """Wait until every task of the job is in the closed table, completed.

        Raises:
            SystemExit: One is not, in time or at all.
        """
        self.wait_for(lambda: self.services.job_table.get(job_id).state.is_ended, f"end of job {job_id}", timeout_s)
        summary = self.services.job_table.get(job_id)
        if summary.completed != summary.tasks:
            raise SystemExit(f"{summary.completed} of {summary.tasks} completed, {summary.dead} dead")


def _new_directory(servers: Servers) -> Path:
    """Return a new directory whose name no other system has."""
    directory = servers.directory / f"b{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    return directory
