"""The services of one configuration on the twins of their servers, with a clock that tests set."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import boto3
import fakeredis
import moto
import pytest

from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.exact import EXACT
from sosw_celery.core.tasks.model import Task
from sosw_celery.services.attempts import Attempts, Run
from sosw_celery.services.hint_publisher import HintPublisher
from sosw_celery.services.orchestrator import Orchestrator
from sosw_celery.services.scavenger import Scavenger
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_rows import to_item
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.redis.idle_flag import IdleFlag
from sosw_celery.stores.redis.slots import Slots
from sosw_celery.stores.redis.turns import Turns
from tests.harness.messenger import FakeMessenger


class System(FakeMessenger):
    """Everything that moves a task on, without processes: it is its own messenger, and the time is `now`."""

    def __init__(self, **section: Any) -> None:
        super().__init__()
        self.settings = load_settings({"labourers": {"resize": {"max_simultaneous_invocations": 2}}, **section})
        self.now = Decimal(1_795_392_000)
        #: Jobs that a Scheduler was to go on with.
        self.resumed: list[str] = []
        #: How fast the clock of Redis is.
        self.shared_clock_off_s = 0
        self.monotonic = 0.0
        #: Share of its cap that health leaves each labourer.
        self.health = 1.0
        client = boto3.client("dynamodb", region_name="eu-west-1")
        tables = Tables.from_settings(self.settings)
        create_tables(client, tables)
        self.redis = fakeredis.FakeRedis()
        self.slots = Slots(self.redis, archive_every=5)
        self.job_table = JobTable(client, tables)
        self.task_table = TaskTable(
            client,
            tables,
            delta=greenfield_delta(self.settings),
            job_counters=self.job_table.counters_update,
            parallel=1,
        )
        self.hint_publisher = HintPublisher(
            self.settings,
            lambda: self.task_table,
            self.slots,
            messenger=self,
            node="orchestrator",
            clock=lambda: self.now,
        )
        self.orchestrator = Orchestrator(
            self.settings,
            self.task_table,
            self.slots,
            hints=self.hint_publisher,
            messenger=self,
            clock=lambda: self.now,
            turns=Turns(self.redis, prefix="sosw"),
            is_first_start=lambda labourer_id: self.job_table.begin_labourer(labourer_id, self.now),
            share_of=lambda _: self.health,
        )
        self.attempts = Attempts(
            self.settings,
            self.task_table,
            self.slots,
            node="node",
            hints=self.hint_publisher,
            messenger=self,
            job_ended=lambda job_id: self.job_table.finish_if_done(job_id, self.now),
            clock=lambda: self.now,
            chance=lambda: 1.0,
            share_of=lambda _: self.health,
        )
        self.scavenger = Scavenger(
            self.settings,
            self.task_table,
            self.job_table,
            self.slots,
            self.attempts,
            turns=Turns(self.redis, prefix="sosw"),
            idle_mark=IdleFlag(self.redis, prefix="sosw"),
            messenger=self,
            resume_job=lambda record, now: self.resumed.append(record.job_id),
            begin_due=lambda: self.resumed.extend(self.job_table.due(self.now, 10)),
            clock=lambda: EXACT.add(self.now, self.shared_clock_off_s),
            own_clock=lambda: self.now,
            monotonic=lambda: self.monotonic,
        )

    def queue(self, count: int, labourer_id: str = "resize", **fields: Any) -> list[Task]:
        """Have tasks, one second apart, the last one now, whatever stood there before."""
        tasks = [
            Task(
                task_id=f"task-{number:03d}",
                labourer_id=labourer_id,
                greenfield=self.now - count + number,
                created_at=self.now,
                **fields,
            )
            for number in range(1, count + 1)
        ]
        rows = [to_item(task, self.task_table.tables) for task in tasks]
        self.task_table._put_all(self.task_table.tables.tasks, rows)  # moto takes new rows one by one
        return tasks

    def job_of(self, job_id: str, tasks: int, labourer_id: str = "resize") -> None:
        """Have a job whose tasks are all written."""
        self.job_table.accept(job_id, {"lambda_name": labourer_id}, labourer_id, self.now, datetime.date(2026, 11, 23))
        record = self.job_table.claim_chunking(job_id, "owner", self.now, 30, ended_before=None)
        assert record is not None
        record = self.job_table.begin_writing(
            record, "owner", now=self.now, tasks=tasks, rows_per_part=100, batch_rows=100
        )
        part = self.job_table.claim_part(record, 0, "owner", self.now, 30, ended_before=None)
        assert part is not None
        assert self.job_table.finish_part(self.job_table.checkpoint(part, tasks, self.now, 30))

    def tend(self) -> int:
        """Have the safety net look after all, and make its passes; return how many hints the last one sent."""
        self.orchestrator.tend(self.settings.labourers)
        made = [self.orchestrator.dispatch(labourer_id, from_head=True) for labourer_id in self.passes]
        self.passes.clear()
        return made[-1] if made else 0

    def sweep(self) -> None:
        """Look at all labourers, and make the sweeps that are asked for."""
        self.scavenger.look()
        self.make_sweeps()

    def make_sweeps(self) -> None:
        """Make the sweeps that were asked for, until no more is."""
        while self.sweeps:
            labourer_id, thorough = self.sweeps.pop(0)
            self.scavenger.sweep(labourer_id, thorough=thorough)

    def begin_all(self) -> list[Run]:
        """Take up every hint that was published, as workers would."""
        hints, self.hints[:] = self.hints[:], []
        runs = [self.attempts.begin(hint) for hint in hints]
        return [run for run in runs if run is not None]

    def ids(self) -> list[str]:
        """Return the tasks of the published hints, in their order."""
        return [hint.attempt.task_id for hint in self.hints]


@pytest.fixture
def make_system() -> Iterator[Callable[..., System]]:
    """Builds a system with a `sosw` section of one's own."""
    with moto.mock_aws():
        yield System


@pytest.fixture
def system(make_system: Callable[..., System]) -> System:
    """A system with the labourer `resize`, which has two slots."""
    return make_system()
