"""The Scheduler on a real DynamoDB engine, in real processes that are killed and frozen while it works."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sosw_celery import clock
from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.jobs.plan import Envelope, task_id
from sosw_celery.core.tasks.model import JobState, Task
from sosw_celery.services.lease_clock import LeaseClock
from sosw_celery.services.scheduler import Scheduler
from sosw_celery.stores.dynamodb import attributes, new_rows
from sosw_celery.stores.dynamodb import client as dynamodb_client
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.new_rows import NewRows
from sosw_celery.stores.dynamodb.requests import transact
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.files.queue_files import DirectoryQueueFiles
from sosw_celery.stores.redis.slots import Slots
from tests.faults.injectors.tcp_proxy import LOOPBACK, TcpProxy
from tests.harness.messenger import FakeMessenger
from tests.harness.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LEASE_S = 0.5
KILLS = 20

# Imports everything and connects nothing, then forks a Scheduler process for each line: it goes on with the job of that
# line until all its rows are written. Forking saves each of them the second that the imports take. An ended one is kept
# as a zombie until the next line, so that its pid cannot be somebody else's when the test kills it.
NURSERY = """
import json, os, sys
from tests.integration.test_scheduler import process_of
for line in iter(sys.stdin.readline, ""):
    arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        process_of(**arguments)
        os._exit(0)
    print(child, flush=True)
    ended = False
    while not ended:
        sys.stdin.readline()
        _, status = os.waitpid(child, os.WUNTRACED)
        ended = not os.WIFSTOPPED(status)
        print(status, flush=True)
"""


def job_of(rows: int) -> dict[str, Any]:
    """A job of so many tasks, with something in each."""
    skus = [f"sku-{number:05d}" for number in range(rows)]
    return {"lambda_name": "resize", "isolate_skus": True, "skus": skus, "text": "x" * 200}


def scheduler_on(
    client: DynamoDBClient,
    tables: Tables,
    queue: str,
    *,
    lease_s: float = LEASE_S,
    rows_client: DynamoDBClient | None = None,
    lease_clock: LeaseClock | None = None,
    **section: Any,
) -> Scheduler:
    """A Scheduler with real stores, whose messages nobody gets."""
    settings = load_settings(
        {
            "labourers": {"resize": {"arn": "arn"}},
            "job_schema": {"chunkable_attrs": ["sku"]},
            "queue_bucket": f"file://{queue}",
            "rows_to_process": 20,
            "rows_per_file": 400,
            **section,
        }
    ).model_copy(update={"part_lease_s": lease_s})
    job_table = JobTable(client, tables)
    return Scheduler(
        settings,
        task_table=TaskTable(
            client,
            tables,
            delta=greenfield_delta(settings),
            job_counters=job_table.counters_update,
            new_rows_client=lambda: rows_client or client,
            held_back_s=settings.part_margin_s,
        ),
        job_table=job_table,
        queue_files=DirectoryQueueFiles(Path(queue)),
        messenger=FakeMessenger(),
        lease_clock=lease_clock,
    )


def process_of(
    endpoint: str,
    prefix: str,
    queue: str,
    job_id: str,
    *,
    freeze_at: int = 0,
    throttled_after: int | None = None,
    rows_endpoint: str = "",
    signs: str = "",
    **section: Any,
) -> None:
    """What a Scheduler process does: go on with the job until its rows are written.

    Parameters:
        freeze_at: At the beginning of this request with rows the process stops, until somebody continues it.
        throttled_after: So many requests with rows are taken and no more, until the file `go` is there.
        rows_endpoint: Where requests with rows go, if not where the others do.
        signs: The directory of the file `go`, and of those by which the process tells where it is: `throttled`, and
            `given up` when it waits for what may be on its way.
    """
    client = dynamodb_client.connect(endpoint_url=endpoint, region_name="eu-west-1")
    rows_client = dynamodb_client.connect(
        endpoint_url=rows_endpoint or endpoint, region_name="eu-west-1", sends=1, timeout_s=1 if rows_endpoint else 10
    )
    if freeze_at:
        requests = itertools.count(1)

        def freeze(**_: Any) -> None:
            if next(requests) == freeze_at:
                # To this thread: one to the process is taken by another thread, while this one goes on for a moment.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

        rows_client.meta.events.register("provide-client-params.dynamodb.BatchExecuteStatement", freeze)
    if throttled_after is not None:
        throttle(rows_client, throttled_after, Path(signs))
    tables = tables_of(prefix)
    scheduler = scheduler_on(client, tables, queue, rows_client=rows_client, **section)
    if signs:
        tell_of_waits(scheduler._task_table.new_rows, Path(signs))
    while JobTable(client, tables).record(job_id).is_being_scheduled:
        scheduler.run(Envelope(job_id))
        time.sleep(0.02)  # parts of the dead are held until their leases are over


def throttle(client: Any, after: int, signs: Path) -> None:
    """Have the table take so many requests with rows, and throttle the others until it is told to go on."""
    new_rows.SENDS, new_rows.LONGEST_WAIT_S = 100_000, 0.1  # for as long as it takes
    execute, requests = client.batch_execute_statement, itertools.count(1)

    def throttled(*, Statements: list[Any]) -> Any:
        if next(requests) <= after or (signs / "go").exists():
            return execute(Statements=Statements)
        (signs / "throttled").touch()
        return {"Responses": [{"Error": {"Code": "ThrottlingError"}} for _ in Statements]}

    client.batch_execute_statement = throttled


def tell_of_waits(rows: NewRows, signs: Path) -> None:
    """Have a process tell when it waits for a request that it has given up."""

    def sleep(seconds: float) -> None:
        if seconds == rows._held_back_s:
            (signs / "given up").touch()
        time.sleep(seconds)

    rows._sleep = sleep


def tables_of(prefix: str) -> Tables:
    """Tables of one test."""
    names = {"tasks": "tasks", "closed": "closed", "retry": "retry", "jobs": "jobs"}
    return Tables(**{field: f"{prefix}{name}" for field, name in names.items()})


@dataclass
class Ground:
    """The tables of one test on the real engine."""

    client: DynamoDBClient
    endpoint: str
    prefix: str
    queue: str
    #: Rows that were seen in the tasks table: when each was written.
    seen: dict[str, str] = field(default_factory=dict)
    #: How often each task was closed.
    closed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.tables = tables_of(self.prefix)
        create_tables(self.client, self.tables)
        self.scheduler = scheduler_on(self.client, self.tables, self.queue)
        self.job_table = JobTable(self.client, self.tables)

    def scan(self, table: str) -> dict[str, dict[str, Any]]:
        """All items of a table by their ids."""
        pages = self.client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return {item["task_id"]["S"]: item for page in pages for item in page["Items"]}

    def observe(self, chance: random.Random) -> None:
        """Look at the rows, and be the workers: move some of them to the closed table."""
        rows = self.scan(self.tables.tasks)
        for identity, row in rows.items():
            assert self.seen.setdefault(identity, row["created_at"]["N"]) == row["created_at"]["N"], "written twice"
        for identity in chance.sample(sorted(rows), min(len(rows), 60)):
            self.client.put_item(TableName=self.tables.closed, Item=rows[identity])
            self.client.delete_item(TableName=self.tables.tasks, Key={"task_id": {"S": identity}})

    def close_all(self) -> int:
        """Be the workers: close every task that is queued, and return how many were."""
        rows = self.scan(self.tables.tasks)
        for identity, row in rows.items():
            self.client.put_item(TableName=self.tables.closed, Item=row)
            self.client.delete_item(TableName=self.tables.tasks, Key={"task_id": {"S": identity}})
        self.closed.update(list(rows))
        return len(rows)

    def assert_complete(self, rows_of_jobs: dict[str, int]) -> None:
        """Every row of the jobs is in one table, exactly once, as it should be; and there is nothing else."""
        queued, closed = self.scan(self.tables.tasks), self.scan(self.tables.closed)
        assert not queued.keys() & closed.keys(), "closed rows came back"
        expected = {
            task_id(job_id, row): f"sku-{row:05d}" for job_id, rows in rows_of_jobs.items() for row in range(rows)
        }
        everything = queued | closed
        assert everything.keys() == expected.keys()
        assert {key: json.loads(row["payload"]["S"])["skus"] for key, row in everything.items()} == {
            key: [sku] for key, sku in expected.items()
        }
        for identity, written_at in self.seen.items():
            assert everything[identity]["created_at"]["N"] == written_at, "written twice"
        for job_id, rows in rows_of_jobs.items():
            summary = self.job_table.get(job_id)
            assert (summary.state, summary.tasks, summary.written) == (JobState.SCHEDULED, rows, rows)
        assert [path for path in Path(self.queue).rglob("*") if path.is_file()] == []


@pytest.fixture
def ground(dynamodb_endpoint: str, table_prefix: str, tmp_path: Path) -> Ground:
    """Empty tables on the real engine."""
    client = dynamodb_client.connect(endpoint_url=dynamodb_endpoint, region_name="eu-west-1")
    return Ground(client, dynamodb_endpoint, table_prefix, str(tmp_path / "queue"))


class Nursery:
    """Starts Scheduler processes one after the other; each can be killed, stopped and continued."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, job_id: str, **more: Any) -> int:
        """Start a process that goes on with the job; return its pid."""
        ground = self._ground
        arguments = {"endpoint": ground.endpoint, "prefix": ground.prefix, "queue": ground.queue, "job_id": job_id}
        return self._ask(json.dumps({**arguments, **more}))

    def wait(self) -> int:
        """Wait until the process ends or stops, and return its status as `os.waitpid` gives it."""
        return self._ask("wait")

    def close(self) -> None:
        """Let the nursery itself end."""
        self._process.communicate(timeout=20)

    def _ask(self, line: str) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture
def nursery(ground: Ground) -> Iterator[Nursery]:
    """Starts processes for this test's tables."""
    with contextlib.closing(Nursery(ground)) as started:
        yield started


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_double_nothing(ground: Ground, nursery: Nursery) -> None:
    """A process killed by kill -9 at twenty random moments and started again each time writes exactly the rows.

    Rows that workers have closed meanwhile stay closed, and no row is written a second time.
    """
    chance = random.Random(20_261_123)
    rows_of_jobs: dict[str, int] = {}
    kills, job_id = 0, ""
    while kills < KILLS:
        if not job_id:
            job_id = f"job-{len(rows_of_jobs)}"
            rows_of_jobs[job_id] = chance.randrange(3000, 6000)
            ground.scheduler.submit(job_of(rows_of_jobs[job_id]), job_id)
        pid = nursery.start(job_id)
        time.sleep(chance.uniform(0.05, 0.6))  # the random moment
        os.kill(pid, signal.SIGKILL)
        if nursery.wait() == signal.SIGKILL:
            kills += 1
        else:
            job_id = ""  # it was done before; the next one takes its place
        ground.observe(chance)
    for unfinished in rows_of_jobs:
        nursery.start(unfinished)
        assert nursery.wait() == 0
    ground.observe(chance)
    ground.assert_complete(rows_of_jobs)


@pytest.mark.parametrize("freeze_at", [1, 2, 30])
def test_a_frozen_process_does_not_write_after_its_lease(ground: Ground, nursery: Nursery, freeze_at: int) -> None:
    """A process that stood still in the middle of its rows, and goes on after another took over, rewrites no row.

    It stops behind its own look at the lease, when the request is about to be built; workers close rows meanwhile.
    """
    ground.scheduler.submit(job_of(1500), "frozen")
    pid = nursery.start("frozen", freeze_at=freeze_at)
    assert os.WIFSTOPPED(nursery.wait())
    process_of(ground.endpoint, ground.prefix, ground.queue, "frozen")  # waits for the lease, then takes over
    ground.observe(random.Random(freeze_at))
    os.kill(pid, signal.SIGCONT)
    assert nursery.wait() == 0
    ground.assert_complete({"frozen": 1500})


def test_a_fast_clock_takes_no_part_from_who_is_throttled(
    ground: Ground, nursery: Nursery, redis_url: str, tmp_path: Path
) -> None:
    """A Scheduler whose clock is a minute fast meets the part of one that is throttled: each task is closed once.

    What the throttled one sends when it may is not sent again over tasks that the other one had written, and that were
    closed meanwhile.
    """
    ground.scheduler.submit(job_of(50), "throttled")
    section = {"lease_s": 30, "rows_to_process": 50}
    nursery.start("throttled", throttled_after=1, signs=str(tmp_path), **section)
    wait_for((tmp_path / "throttled").exists, 30, "the table to throttle")
    wait_for(lambda: ground.close_all() >= 0 and len(ground.closed) == 25, 30, "the first request to be done")
    with redis.Redis.from_url(redis_url) as client:
        lease_clock = LeaseClock(lambda: clock.now() + 60, Slots(client).now)
        fast = scheduler_on(ground.client, ground.tables, ground.queue, lease_clock=lease_clock, **section)
        fast.run(Envelope("throttled", 0))
    ground.close_all()
    (tmp_path / "go").touch()
    assert nursery.wait() == 0
    ground.close_all()
    assert ground.closed == Counter(task_id("throttled", row) for row in range(50))
    ground.assert_complete({"throttled": 50})


def test_rows_that_the_network_holds_back_are_not_put_again(ground: Ground, nursery: Nursery, tmp_path: Path) -> None:
    """A request that was given up arrives after all, and its tasks are closed before it would be sent again."""
    ground.scheduler.submit(job_of(25), "held back")
    with TcpProxy(int(ground.endpoint.rpartition(":")[2])) as network:
        network.delay(to_server_s=3)
        rows_endpoint = f"http://{LOOPBACK}:{network.port}"
        section = {"lease_s": 20, "rows_to_process": 25}
        nursery.start("held back", rows_endpoint=rows_endpoint, signs=str(tmp_path), **section)
        wait_for(lambda: ground.close_all() >= 0 and len(ground.closed) == 25, 30, "the rows to arrive")
        assert (tmp_path / "given up").exists(), "the rows came in time"
        network.heal()
        assert nursery.wait() == 0
    ground.close_all()
    assert ground.closed == Counter(task_id("held back", row) for row in range(25))
    ground.assert_complete({"held back": 25})


def test_many_processes_write_one_job(ground: Ground) -> None:
    """Schedulers that all get the message of one job at once share its parts: each row once, each part once."""
    rows = 3000
    ground.scheduler.submit(job_of(rows), "shared")
    threads = [threading.Thread(target=go_on_until_written, args=(ground, "shared")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ground.assert_complete({"shared": rows})


def go_on_until_written(ground: Ground, job_id: str) -> None:
    """Go on with a job as a Scheduler process does."""
    scheduler = scheduler_on(ground.client, ground.tables, ground.queue)
    while ground.job_table.record(job_id).is_being_scheduled:
        scheduler.run(Envelope(job_id))
        time.sleep(0.01)


def test_counters_stay_exact_under_conflicts(ground: Ground) -> None:
    """Many who count closed tasks of one job in transactions at once, while parts are finished, lose no count."""
    rows, counters, times = 1200, 6, 25
    ground.scheduler.submit(job_of(rows), "counted")

    def count(number: int) -> None:
        for step in range(times):
            update = ground.job_table.counters_update("counted", 1, step % 2)
            marker = {"task_id": {"S": f"{number}/{step}"}, "created_at": attributes.number(Decimal(1))}
            put: Any = {"Put": {"TableName": ground.tables.closed, "Item": marker}}
            transact(ground.client, [put, {"Update": update}], "archive")  # type: ignore[list-item,typeddict-item]

    threads = [threading.Thread(target=count, args=(number,)) for number in range(counters)]
    for thread in threads:
        thread.start()
    assert ground.scheduler.run(Envelope("counted")).state is JobState.SCHEDULED
    for thread in threads:
        thread.join()
    summary = ground.job_table.get("counted")
    assert (summary.completed, summary.dead) == (counters * times, counters * (times // 2))


def test_the_last_closed_task_ends_the_job(ground: Ground) -> None:
    """On the real engine, too: accepted, written, counted, completed, and out of the index of open jobs."""
    ground.scheduler.submit(job_of(3), "small")
    assert ground.job_table.unfinished() == ["small"]
    ground.scheduler.run(Envelope("small"))
    update: Any = {"Update": ground.job_table.counters_update("small", 3, 0)}
    transact(ground.client, [update], "archive")
    assert ground.job_table.finish_if_done("small", Decimal(1))
    assert ground.job_table.get("small").state is JobState.COMPLETED
    assert ground.job_table.unfinished() == []


def test_throttling_slows_down_and_loses_nothing(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that throttles half of each batch, at random, still gets every row."""
    chance = random.Random(3)
    client = ground.scheduler._task_table.new_rows.client
    execute = client.batch_execute_statement

    def throttled(*, Statements: list[Any]) -> dict[str, Any]:
        is_taken = [chance.random() < 0.5 for _ in Statements]
        taken = [statement for statement, is_one in zip(Statements, is_taken, strict=True) if is_one]
        done = iter(execute(Statements=taken)["Responses"] if taken else [])
        left = {"Error": {"Code": "ThrottlingError"}}
        return {"Responses": [next(done) if is_one else left for is_one in is_taken]}

    monkeypatch.setattr(client, "batch_execute_statement", throttled)
    monkeypatch.setattr("sosw_celery.stores.dynamodb.new_rows.LONGEST_WAIT_S", 0.01)
    ground.scheduler.submit(job_of(300), "throttled")
    assert ground.scheduler.run(Envelope("throttled")).written == 300
    ground.assert_complete({"throttled": 300})


def test_a_task_reads_back_as_it_was_written(ground: Ground) -> None:
    """The row in the real engine is the task of the model, with exact times and the payload's own text."""
    ground.scheduler.submit({"lambda_name": "resize", "a": {"ä": [1.5, None]}}, "one")
    ground.scheduler.run(Envelope("one"))
    (row,) = ground.scheduler._task_table.queued("resize", now=Decimal(10**11), start=None, limit=9)
    assert row == Task(
        task_id=task_id("one", 0),
        labourer_id="resize",
        greenfield=row.created_at,
        created_at=row.created_at,
        payload='{"a": {"\\u00e4": [1.5, null]}}',
        job_id="one",
        arn="arn",
    )
