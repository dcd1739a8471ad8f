"""The Scheduler on moto: what becomes of a job, whoever dies, and what a subclass may change."""

from __future__ import annotations

import datetime
import decimal
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.jobs.plan import Envelope, task_id
from sosw_celery.core.tasks.model import JobState, JobSummary, Task
from sosw_celery.errors import InvalidJob, ItemCorrupt, JobNotFound, StoreUnavailable
from sosw_celery.services.lease_clock import LeaseClock
from sosw_celery.services.scheduler import Scheduler
from sosw_celery.stores.dynamodb.job_table import SCHEDULING, JobTable
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.files.queue_files import DirectoryQueueFiles
from tests.harness.messenger import FakeMessenger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = Decimal("1772370000.5")  # 2026-03-01, 13:00 UTC, a Sunday
ARN = "arn:aws:lambda:eu-west-1:000000000000:function:resize"
#: Six rows: five skus one by one, and one node without any.
JOB = {
    "lambda_name": "resize",
    "isolate_skus": True,
    "note": "n",
    "shops": {"north": {"skus": ["a", "b", "c", "d", "e"]}, "south": None},
}


class Killed(BaseException):
    """The process died here: nothing behind this point ran, not even the tidying up."""


class DyingTaskTable(TaskTable):
    """The real table of a process that may be killed in the middle of a batch."""

    #: Batches until the process dies; and how many rows of the last one still get in.
    batches_left: int | None = None
    rows_of_last = 0

    def write(self, tasks: Sequence[Task]) -> None:
        """Write the batch, or some of it and die."""
        if self.batches_left == 0:
            super().write(tasks[: self.rows_of_last])
            raise Killed
        if self.batches_left is not None:
            self.batches_left -= 1
        super().write(tasks)


@dataclass
class World:
    """Everything around a Scheduler, and what it sent."""

    client: DynamoDBClient
    tables: Tables
    queue: Path
    section: dict[str, Any] = field(default_factory=dict)
    now: Decimal = NOW
    steady: float = 1000.0
    lease_clock: LeaseClock | None = None
    messenger: FakeMessenger = field(default_factory=FakeMessenger)

    def __post_init__(self) -> None:
        self.settings = load_settings(
            {
                "labourers": {"resize": {"arn": ARN}},
                "job_schema": {"chunkable_attrs": ["shop", "sku"]},
                "queue_bucket": f"file://{self.queue}",
                "s3_prefix": "q",
                "rows_to_process": 2,
                "rows_per_file": 4,
                **self.section,
            }
        )
        self.job_table = JobTable(self.client, self.tables)
        self.task_table = DyingTaskTable(
            self.client,
            self.tables,
            delta=greenfield_delta(self.settings),
            job_counters=self.job_table.counters_update,
            parallel=1,
        )

    def scheduler(self, kind: type[Scheduler] = Scheduler) -> Scheduler:
        """A Scheduler process."""
        return kind(
            self.settings,
            task_table=self.task_table,
            job_table=self.job_table,
            queue_files=DirectoryQueueFiles(self.queue / "q"),
            messenger=self.messenger,
            clock=lambda: self.now,
            lease_clock=self.lease_clock,
            steady=lambda: self.steady,
        )

    def run(self, job: Any = None, *, kind: type[Scheduler] = Scheduler) -> JobSummary:
        """Submit a job and run it in this process."""
        scheduler = self.scheduler(kind)
        job_id, _ = scheduler.submit(job or JOB, "j1")
        return scheduler.run(Envelope(job_id))

    def die_after(self, batches: int, rows_of_last: int = 0) -> None:
        """Let the next process die after some batches."""
        self.task_table.batches_left, self.task_table.rows_of_last = batches, rows_of_last

    def rows(self) -> list[Task]:
        """What stands in the tasks table, in the order of its queue."""
        return self.task_table.queued("resize", now=self.now, start=None, limit=1000)

    def payloads(self) -> list[dict[str, Any]]:
        """The payloads in the tasks table, in the order of its queue."""
        return [json.loads(row.payload) for row in self.rows()]

    def files(self) -> list[str]:
        """The queue files that stand there."""
        return sorted(path.name for path in self.queue.rglob("*") if path.is_file())


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes a world with settings of its own."""
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        tables = Tables()
        create_tables(client, tables)
        yield lambda **section: World(client, tables, tmp_path / "queue", section)


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    """A world with the usual settings: parts of four rows, batches of two."""
    return make()


EXPECTED = [
    *({"isolate_skus": True, "note": "n", "shops": ["north"], "skus": [sku]} for sku in "abcde"),
    {"isolate_skus": True, "note": "n", "shops": ["south"]},
]


# ---- the way of a job


def test_a_job_becomes_its_tasks(world: World) -> None:
    """Every row is in the table with its labourer, job, arn and payload; the job is scheduled; no file is left."""
    summary = world.run()
    assert summary == JobSummary("j1", "resize", JobState.SCHEDULED, tasks=6, written=6, accepted_at=NOW)
    assert sorted(world.payloads(), key=str) == sorted(EXPECTED, key=str)
    rows = world.rows()
    assert {row.task_id for row in rows} == {task_id("j1", number) for number in range(6)}
    assert {(row.labourer_id, row.job_id, row.arn, row.attempts) for row in rows} == {("resize", "j1", ARN, 0)}
    assert {row.created_at for row in rows} == {NOW}
    assert world.files() == []


def test_rows_of_a_part_keep_their_order(make: Callable[..., World]) -> None:
    """The queue runs in the order of the job: each row's greenfield is above that of the row before, batch by batch."""
    world = make(rows_per_file=100)
    world.run()
    assert world.payloads() == EXPECTED
    greenfields = [row.greenfield for row in world.rows()]
    assert greenfields == sorted(set(greenfields))
    assert greenfields[0] == NOW


def test_each_batch_is_announced(world: World) -> None:
    """After each batch its labourer is told with the lowest greenfield, so that free slots do not wait for the rest."""
    world.run()
    assert [labourer_id for labourer_id, _ in world.messenger.announced] == ["resize"] * 3
    lowest = {row.greenfield for row in world.rows()}
    assert all(greenfield in lowest for _, greenfield in world.messenger.announced)


def test_siblings_get_the_other_parts(world: World) -> None:
    """The one who chunks sends a message for every other part, in an envelope that no job can be taken for."""
    world.run()
    assert world.messenger.envelopes == [{"sosw": {"job_id": "j1", "part": 1}}]
    assert Envelope.from_message(world.messenger.envelopes[0]) == Envelope("j1", 1)
    assert world.scheduler().run(Envelope("j1", 1)).written == 6


def test_submitting_twice_is_once(world: World) -> None:
    """The second submit and run of a job_id change nothing, also when the tasks have moved on meanwhile."""
    world.run()
    first = world.rows()
    assert world.scheduler().submit(JOB, "j1") == ("j1", False)
    world.task_table.client.delete_item(TableName=world.tables.tasks, Key={"task_id": {"S": first[0].task_id}})
    world.now += 1000
    assert world.scheduler().run(Envelope("j1")).tasks == 6
    assert world.rows() == first[1:]


@pytest.mark.parametrize(
    "event",
    [
        JOB,
        json.dumps(JOB),
        {"job": JOB},
        {"job": json.dumps(JOB)},
        json.dumps({"job": JOB}),
        {**JOB, "lambda_name": ARN},
        {**JOB, "lambda_name": f"{ARN}:prod"},
    ],
)
def test_an_event_has_many_shapes(world: World, event: Any) -> None:
    """A dict, JSON, a wrapper around one of these, and an ARN for the name all mean the same job."""
    world.run(event)
    assert len(world.rows()) == 6
    assert {row.labourer_id for row in world.rows()} == {"resize"}


def test_a_job_id_of_its_own_wins(world: World) -> None:
    """The job's own job_id names it; that of the message only when there is none."""
    assert world.scheduler().submit({**JOB, "job_id": "mine"}, "message") == ("mine", True)
    assert world.scheduler().submit({**JOB, "job_id": None}, "message") == ("message", True)


def test_names_of_continuations_are_ordinary(world: World) -> None:
    """A job may have attributes called file_name, sosw or part: they are payload, and nothing else happens."""
    job = {"lambda_name": "resize", "file_name": "x", "part": 3, "sosw": {"job_id": "other", "part": None}}
    assert world.run(job).tasks == 1
    assert world.payloads() == [{key: value for key, value in job.items() if key != "lambda_name"}]


def test_the_day_of_acceptance_counts(world: World) -> None:
    """A period is counted from the day on which the job was accepted, however late it is chunked, in the job's zone."""
    scheduler = world.scheduler()
    scheduler.submit({"lambda_name": "resize", "period": "last_2_days"}, "utc")
    scheduler.submit({"lambda_name": "resize", "period": "today", "timezone": "Pacific/Kiritimati"}, "far")
    world.now += 5 * 86_400
    scheduler.run(Envelope("utc"))
    scheduler.run(Envelope("far"))
    assert sorted(payload["date_list"] for payload in world.payloads()) == [
        ["2026-02-27", "2026-02-28"],
        ["2026-03-02"],
    ]


def test_warnings_are_kept(world: World) -> None:
    """What the chunking warns of is in the summary, from the run and for everybody who asks later."""
    summary = world.run({**JOB, "isolate_skuz": True})
    assert len(summary.warnings) >= 1
    assert "isolate_skuz" in " ".join(summary.warnings)
    assert world.job_table.get("j1").warnings == summary.warnings


# ---- bad input


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ("{", "job"),
        ("[1]", "job"),
        (None, "job"),
        (17, "job"),
        ({}, "job.lambda_name"),
        ({"lambda_name": None}, "job.lambda_name"),
        ({"lambda_name": "resise"}, "job.lambda_name"),
        ({"job": None}, "job.job"),
        ({**JOB, "job_id": ""}, "job.job_id"),
        ({**JOB, "job_id": 7}, "job.job_id"),
        ({**JOB, "job_id": "a#part#00001"}, "job.job_id"),
        ({**JOB, "job_id": "x" * 513}, "job.job_id"),
        ({**JOB, "job_id": "\ud800"}, "job.job_id"),
        ({**JOB, "job_schema_name": "no"}, "job.job_schema_name"),
        ({**JOB, "timezone": "Mars/Base"}, "job.timezone"),
        ({**JOB, "x": float("nan")}, "job.x"),
        ({**JOB, "x": {1: 2}}, "job.x"),
        ({**JOB, "x": datetime.date(2026, 1, 1)}, "job.x"),
    ],
)
def test_what_cannot_be_a_job_is_refused_at_once(world: World, event: Any, path: str) -> None:
    """The submit itself raises, with the path, and nothing is stored: neither job nor rows."""
    with pytest.raises(InvalidJob) as caught:
        world.scheduler().submit(event, "j1")
    assert caught.value.path == path
    assert world.client.scan(TableName=world.tables.jobs)["Count"] == 0


def test_a_wrong_name_gets_a_suggestion(world: World) -> None:
    """An unknown labourer is answered with the one that was meant."""
    with pytest.raises(InvalidJob, match="'resize'"):
        world.scheduler().submit({"lambda_name": "resise"}, "j1")


@pytest.mark.parametrize(
    "change",
    [
        {"period": "someday"},
        {"max_skus_per_batch": -1},
        {"shop": ["x"]},
        {"note": "x" * 500_000},
        {"isolate_skus": "perhaps"},
    ],
)
def test_what_cannot_become_tasks_is_refused(
    world: World, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A job whose fault shows when it is chunked ends as refused, with the reason; no row, no file; its id is free.

    That is an error in the log: whoever submitted it has been told that it was accepted.
    """
    with caplog.at_level(logging.ERROR), pytest.raises(InvalidJob) as caught:
        world.run({**JOB, **change})
    assert [record.getMessage() for record in caplog.records] == [f"job refused: {caught.value!r}"]
    summary = world.job_table.get("j1")
    assert (summary.state, summary.error) == (JobState.REFUSED, str(caught.value))
    assert world.rows() == []
    assert world.files() == []
    assert world.run(JOB).written == 6


def test_a_row_that_is_too_big_shows_before_the_first_is_written(make: Callable[..., World]) -> None:
    """One task over DynamoDB's limit, the last one of many parts, and nothing of the job is written."""
    world = make(rows_per_file=2)
    huge = {"shops": {f"s{n}": {"skus": ["a"]} for n in range(9)} | {"z": {"text": "x" * 410_000}}}
    with pytest.raises(InvalidJob, match="over the limit"):
        world.run({"lambda_name": "resize", "isolate_shops": True, **huge})
    assert (world.rows(), world.files(), world.messenger.envelopes) == ([], [], [])


class GivesNothing(Scheduler):
    """A subclass whose chunker finds nothing to do."""

    def construct_job_data(self, job: Any, skeleton: Any = None) -> list[dict[str, Any]]:
        """Return no task."""
        return []


def test_a_job_without_tasks_is_refused(world: World) -> None:
    """No task is not a success."""
    with pytest.raises(InvalidJob, match="at least one task"):
        world.run(kind=GivesNothing)
    assert world.job_table.get("j1").state is JobState.REFUSED


def test_an_unknown_job_is_not_found(world: World) -> None:
    """An envelope for a job that nobody accepted is an error, not an empty success."""
    with pytest.raises(JobNotFound):
        world.scheduler().run(Envelope("nobody"))


# ---- dying and going on


def survive(world: World) -> JobSummary:
    """Go on with the job after a death: the leases of the dead run out first."""
    world.task_table.batches_left = None
    world.now += 100
    world.steady += 100
    return world.scheduler().run(Envelope("j1"))


@pytest.mark.parametrize("rows_of_last", [0, 1, 2])
@pytest.mark.parametrize("batches", [0, 1, 2])
def test_killed_while_writing(world: World, batches: int, rows_of_last: int) -> None:
    """Whatever a killed process had written of its batch, the next one completes the rows and doubles none."""
    world.die_after(batches, rows_of_last)
    with pytest.raises(Killed):
        world.run()
    before = {row.task_id: row for row in world.rows()}
    assert survive(world).written == 6
    after = {row.task_id: row for row in world.rows()}
    assert len(after) == 6
    assert before.items() <= after.items(), "a row that was there has been written again"
    assert world.files() == []


def test_rows_that_the_dead_could_not_announce_are_announced(make: Callable[..., World]) -> None:
    """Who goes on says that rows stand there also where it writes none, because the one before it had written them."""
    world = make(rows_per_file=100, rows_to_process=100)
    world.die_after(0, 6)
    with pytest.raises(Killed):
        world.run()
    world.messenger.announced.clear()
    survive(world)
    assert world.messenger.announced == [("resize", None)]


def test_a_row_that_has_moved_on_is_not_written_again(world: World) -> None:
    """Rows of the batch in doubt that are closed already, or wait for a retry, stay where they are."""
    world.die_after(0, 2)
    with pytest.raises(Killed):
        world.run()
    first, second = world.rows()
    for row, table in ((first, world.tables.closed), (second, world.tables.retry)):
        key = {"task_id": {"S": row.task_id}}
        world.client.delete_item(TableName=world.tables.tasks, Key=key)
        item = {**key, "labourer_id": {"S": "resize"}, "desired_launch_time": {"N": "1"}}
        world.client.put_item(TableName=table, Item=item)
    survive(world)
    assert {row.task_id for row in world.rows()} == {task_id("j1", number) for number in range(2, 6)}


class DiesWhile(Scheduler):
    """A Scheduler that is killed at one of the steps around its rows."""

    step = ""

    def _die_at(self, step: str) -> None:
        if self.step == step:
            raise Killed

    def parse_job_to_file(self, job: Any) -> int:
        """Chunk, and perhaps die before or after."""
        self._die_at("before chunking")
        tasks = super().parse_job_to_file(job)
        self._die_at("after chunking")
        return tasks

    def get_and_lock_queue_file(self) -> str:
        """Lock, and perhaps die before or after."""
        self._die_at("before locking")
        path = super().get_and_lock_queue_file()
        self._die_at("after locking")
        return path

    def upload_and_unlock_queue_file(self) -> None:
        """Give the file back, and perhaps die before or after."""
        self._die_at("before unlocking")
        super().upload_and_unlock_queue_file()
        self._die_at("after unlocking")

    @staticmethod
    def _quietly(call: Callable[[], object]) -> None:
        """Do nothing: a dead process tidies nothing up."""


STEPS = [f"{when} {what}" for what in ("chunking", "locking", "unlocking") for when in ("before", "after")]


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_the_steps(world: World, step: str) -> None:
    """A process that dies before or after any step of a part leaves nothing that the next one cannot go on with."""
    with pytest.raises(Killed):
        world.run(kind=type("Dies", (DiesWhile,), {"step": step}))
    summary = survive(world)
    assert (summary.state, summary.written) == (JobState.SCHEDULED, 6)
    assert Counter(map(str, world.payloads())) == Counter(map(str, EXPECTED))
    assert world.files() == []


def test_a_silent_part_is_left_alone_while_its_lease_holds(world: World) -> None:
    """Nobody writes a part whose owner may be alive; when its lease is over, anybody does."""
    with pytest.raises(Killed):
        world.run(kind=type("Dies", (DiesWhile,), {"step": "after locking"}))
    world.now += 10
    assert world.scheduler().run(Envelope("j1")).written == 2
    assert {row.task_id for row in world.rows()} == {task_id("j1", 4), task_id("j1", 5)}
    assert survive(world).written == 6


def test_a_part_changes_hands_when_nothing_of_its_owner_is_on_its_way(world: World) -> None:
    """A silent owner's part is taken over a fifth of its lease after that has ended, and no moment before."""
    with pytest.raises(Killed):
        world.run(kind=type("Dies", (DiesWhile,), {"step": "after locking"}))
    world.now += Decimal("35.9")
    assert world.scheduler().run(Envelope("j1", 0)).written == 2
    world.now += Decimal("0.2")
    assert world.scheduler().run(Envelope("j1", 0)).written == 6


@pytest.mark.parametrize(("own", "shared"), [(60, 0), (0, 60)])
def test_one_clock_that_is_fast_takes_no_part_from_its_owner(world: World, own: int, shared: int) -> None:
    """A Scheduler whose clock is a minute fast, or one that all have, leaves alone what somebody holds."""
    with pytest.raises(Killed):
        world.run(kind=type("Dies", (DiesWhile,), {"step": "after locking"}))
    world.now += 20
    world.lease_clock = LeaseClock(lambda: world.now + own, lambda: world.now + shared)
    assert world.scheduler().run(Envelope("j1", 0)).written == 2
    world.scheduler().resume(world.job_table.record("j1"), world.now + 60)
    assert {"sosw": {"job_id": "j1", "part": 0}} not in world.messenger.envelopes


@pytest.mark.parametrize(("own", "shared"), [(-60, 0), (0, -60)])
def test_one_clock_that_is_slow_gives_no_part_away(world: World, own: int, shared: int) -> None:
    """The lease of a Scheduler whose clock is a minute slow, or the one that all have, is as long as that of others."""
    world.lease_clock = LeaseClock(lambda: world.now + own, lambda: world.now + shared)
    with pytest.raises(Killed):
        world.run(kind=type("Dies", (DiesWhile,), {"step": "after locking"}))
    world.lease_clock = None
    world.now += 20
    assert world.scheduler().run(Envelope("j1", 0)).written == 2


def test_a_part_is_given_back_when_none_of_its_requests_is_on_its_way(make: Callable[..., World]) -> None:
    """A run that is interrupted while rows are on their way leaves its part to others once they have arrived."""
    world = make(rows_per_file=100, rows_to_process=100)
    on_its_way, may_arrive = threading.Event(), threading.Event()
    free_meanwhile: list[list[int]] = []

    class Slow(DyingTaskTable):
        def write(self, tasks: Sequence[Task]) -> None:
            on_its_way.set()
            assert may_arrive.wait(20)
            free_meanwhile.append(world.job_table.open_parts("j1", ended_before=world.now))
            super().write(tasks)

    class Interrupted(Scheduler):
        def process_file(self) -> None:
            write = self._writer._put

            def interrupted(tasks: Sequence[Task]) -> None:
                threading.Thread(target=write, args=(tasks,)).start()
                assert on_its_way.wait(20)
                threading.Timer(0.2, may_arrive.set).start()
                raise KeyboardInterrupt

            self._writer._put = interrupted  # type: ignore[method-assign]
            super().process_file()

    world.task_table.__class__ = Slow
    with pytest.raises(KeyboardInterrupt):
        world.run(kind=Interrupted)
    assert free_meanwhile == [[]]
    assert world.job_table.open_parts("j1", ended_before=world.now) == [0]
    assert len(world.rows()) == 6


def test_a_refusal_that_comes_too_late_is_none(world: World) -> None:
    """Whoever finds a job wrong after another one has taken its chunking over says nothing about it."""
    scheduler = world.scheduler()

    def overtaken(job: Any) -> int:
        world.job_table.claim_chunking("j1", "other", NOW + 100, 30.0, ended_before=NOW + 100)
        raise InvalidJob("job.skus", "bad")

    scheduler.parse_job_to_file = overtaken  # type: ignore[method-assign]
    scheduler.submit(JOB, "j1")
    assert scheduler.run(Envelope("j1")).state is JobState.ACCEPTED


def test_a_stalled_owner_stops_writing(world: World) -> None:
    """A process that stood still for its lease notices it by its own clock before it writes the next batch."""
    stalled: list[bool] = []

    class Stalls(Scheduler):
        """Stands still once, after its first batch, for almost its lease; then it is asked to end."""

        @staticmethod
        def pop_rows_from_file(file_name: str, rows: int | None = 1) -> list[str]:
            """Take the rows, and stand still before they are written."""
            if len(world.rows()) == 2 and not stalled:
                world.steady += 29
                world.now += 29
                stalled.append(True)
            return Scheduler.pop_rows_from_file(file_name, rows)

    scheduler = world.scheduler(Stalls)
    scheduler.submit(JOB, "j1")
    scheduler.run(Envelope("j1"), should_stop=lambda: bool(stalled))
    assert len(world.rows()) == 2
    assert world.job_table.open_parts("j1", ended_before=world.now + 2) == [0, 1]
    assert survive(world).written == 6


@pytest.mark.parametrize("damage", ["lost", "cut", "garbage", "empty"])
def test_a_damaged_queue_file_is_made_again(world: World, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """A queue file that is gone or no good costs a second chunking, and no row."""
    world.die_after(1, 1)
    with pytest.raises(Killed):
        world.run()
    (locked,) = world.queue.rglob("locked_*")
    if damage == "lost":
        locked.unlink()
    else:
        locked.write_text({"cut": "1\t{}\n", "garbage": "0\t{}\nno row\n", "empty": ""}[damage])
    with caplog.at_level(logging.WARNING):
        assert survive(world).written == 6
    assert Counter(map(str, world.payloads())) == Counter(map(str, EXPECTED))
    assert "queue file lost" in caplog.text
    assert world.files() == []


def test_a_job_that_changes_its_mind_is_set_aside(world: World) -> None:
    """When the file is lost and the job gives fewer rows than before, nothing is invented: it is an error."""
    world.die_after(1)
    with pytest.raises(Killed):
        world.run()
    for path in world.queue.rglob("locked_*"):
        path.unlink()
    world.settings = world.settings.model_copy(update={"job_schema": world.settings.job_schema_variants.get("x")})
    with pytest.raises(ItemCorrupt, match="other rows"):
        survive(world)


def test_a_table_that_does_not_answer_costs_no_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing write leaves the part free at once, before its checkpoint, and the next run goes on."""
    scheduler = world.scheduler()
    scheduler.submit(JOB, "j1")

    def unavailable(tasks: Sequence[Task]) -> None:
        raise StoreUnavailable("dynamodb", "BatchWriteItem", "ThrottlingException")

    with monkeypatch.context() as patched:
        patched.setattr(world.task_table, "write", unavailable)
        with pytest.raises(StoreUnavailable):
            scheduler.run(Envelope("j1"))
    assert world.job_table.open_parts("j1", ended_before=world.now) == [0, 1]
    assert scheduler.run(Envelope("j1")).written == 6


def test_rows_are_announced_also_when_others_failed(make: Callable[..., World]) -> None:
    """A write whose answer was lost has left rows behind, which nobody else would tell of for a minute."""
    world = make(rows_per_file=100)

    class LosesAnswers(DyingTaskTable):
        def write(self, tasks: Sequence[Task]) -> None:
            super().write(tasks)
            raise StoreUnavailable("dynamodb", "BatchWriteItem", "ReadTimeoutError")

    scheduler = world.scheduler()
    scheduler._task_table.__class__ = LosesAnswers
    scheduler.submit(JOB, "j1")
    with pytest.raises(StoreUnavailable):
        scheduler.run(Envelope("j1"))
    rows = world.rows()
    assert len(rows) == 2
    assert world.messenger.announced == [("resize", rows[0].greenfield)]


def test_failing_hints_cost_nothing(world: World) -> None:
    """A broker that is away, for announcements and for siblings, does not keep rows from being written."""
    scheduler = world.scheduler()
    world.messenger.error = ConnectionError("no broker")
    scheduler.submit(JOB, "j1")
    assert scheduler.run(Envelope("j1")).written == 6


# ---- time, shutdown, siblings


def test_what_is_left_goes_to_a_sibling(make: Callable[..., World]) -> None:
    """Out of time, the rest of the file is unlocked, the part is free, a sibling is sent, and it goes on there."""
    world = make(rows_per_file=100, scheduler_max_run=100, shutdown_period=40)

    class Slow(Scheduler):
        """Each batch takes half a minute."""

        def pop_rows_from_file(self, file_name: str, rows: int | None = 1) -> list[str]:  # type: ignore[override]
            """Take the rows, slowly."""
            world.steady += 35
            return Scheduler.pop_rows_from_file(file_name, rows)

    world.settings = world.settings.model_copy(update={"part_lease_s": 10_000.0})
    summary = world.run(kind=Slow)
    assert (summary.state, summary.written) == (JobState.WRITING, 4)
    assert world.files() == ["tasks_queue_j1.1_00000.txt"]
    (path,) = world.queue.rglob("*.txt")
    assert [line.split("\t")[0] for line in path.read_text().splitlines()] == ["4", "5"]
    assert world.messenger.envelopes == [{"sosw": {"job_id": "j1", "part": 0, "depth": 1}}]
    world.now += 1
    assert world.scheduler().run(Envelope("j1", 0)).state is JobState.SCHEDULED
    assert world.payloads() == EXPECTED


def test_shutting_down_ends_well(world: World) -> None:
    """Asked to stop, a run finishes its batch and leaves the rest to a sibling."""
    scheduler = world.scheduler()
    scheduler.submit(JOB, "j1")
    summary = scheduler.run(Envelope("j1"), should_stop=lambda: len(world.rows()) >= 2)
    assert summary.written == 2
    assert world.messenger.envelopes[-1] == {"sosw": {"job_id": "j1", "part": 0, "depth": 1}}
    assert world.job_table.open_parts("j1", ended_before=world.now) == [0, 1]


def test_a_shutdown_period_never_takes_all_the_time(make: Callable[..., World]) -> None:
    """With a shutdown period longer than the run itself rows are written all the same."""
    assert make(scheduler_max_run=10, shutdown_period=60).run().written == 6


def test_a_line_of_schedulers_that_get_nothing_done_has_an_end(make: Callable[..., World]) -> None:
    """Each sibling carries its depth; at the limit none is sent, and after a lease the sweep begins a new line."""
    world = make(rows_per_file=100, max_sibling_depth=3)
    world.scheduler().submit(JOB, "j1")
    waiting: list[Mapping[str, Any]] = [Envelope("j1").as_message()]
    depths = []
    while waiting:
        envelope = Envelope.from_message(waiting.pop(0))
        assert envelope is not None
        depths.append(envelope.depth)
        world.scheduler().run(envelope, should_stop=lambda: True)
        waiting += world.messenger.envelopes
        world.messenger.envelopes.clear()
    assert depths == [0, 1, 2, 3]
    assert world.rows() == []
    assert world.scheduler().resume(world.job_table.record("j1"), NOW + 40) == 1
    assert [Envelope.from_message(message) for message in world.messenger.envelopes] == [Envelope("j1", 0)]


def test_only_a_run_spawns_siblings(world: World) -> None:
    """Outside of a run there is nothing to go on with."""
    with pytest.raises(RuntimeError, match="run"):
        world.scheduler().spawn_sibling()


# ---- lost messages


def test_a_lost_message_is_sent_again(world: World) -> None:
    """A job that was accepted, but whose message never came, is gone on with after a lease, and then more rarely."""
    scheduler = world.scheduler()
    scheduler.submit(JOB, "j1")
    assert scheduler.resume(world.job_table.record("j1"), NOW + 29) == 0
    times = [NOW + seconds for seconds in range(30, 700, 5)]
    sent_at = [at - NOW for at in times if scheduler.resume(world.job_table.record("j1"), at)]
    assert sent_at == [30, 90, 210, 450, 690]
    assert world.messenger.envelopes == [{"sosw": {"job_id": "j1", "part": None}}] * 5
    assert scheduler.run(Envelope("j1")).written == 6
    assert world.job_table.unfinished(stages=(SCHEDULING,)) == []


def test_parts_that_nobody_holds_are_gone_on_with(world: World) -> None:
    """Of a job that is being written, messages go to the parts whose owners are gone; held ones are left alone."""
    with pytest.raises(Killed):
        world.run(kind=type("Dies", (DiesWhile,), {"step": "after locking"}))
    world.messenger.envelopes.clear()
    world.job_table.claim_part(world.job_table.record("j1"), 1, "alive", NOW + 25, 30.0, ended_before=None)
    world.now = NOW + 40
    assert world.scheduler().resume(world.job_table.record("j1"), NOW + 40) == 1
    assert world.messenger.envelopes == [{"sosw": {"job_id": "j1", "part": 0}}]


def test_a_job_of_which_all_is_held_is_looked_at_when_a_lease_ends(make: Callable[..., World]) -> None:
    """Whoever died holding its last part is missed right after that: no message is sent before, no wait doubled."""
    world = make(rows_per_file=100)
    with pytest.raises(Killed):
        world.run(kind=type("Dies", (DiesWhile,), {"step": "after locking"}))
    world.messenger.envelopes.clear()
    (held_until,) = world.job_table.unwritten_parts(world.job_table.record("j1")).values()
    assert held_until is not None
    gone_on = []
    for seconds in range(29, 100):
        world.now = NOW + seconds
        gone_on += [seconds] * world.scheduler().resume(world.job_table.record("j1"), world.now)
    margin_s = Decimal(repr(world.scheduler().settings.part_margin_s))
    assert gone_on[0] == int(held_until + margin_s - NOW) + 1
    assert world.messenger.envelopes[0] == {"sosw": {"job_id": "j1", "part": 0}}
    assert gone_on[1:] == [gone_on[0] + 60]


def test_a_clock_that_is_minutes_ahead_does_not_keep_a_job_from_being_gone_on_with(world: World) -> None:
    """Who has chunked it with such a clock notes a time to come; the others count from when they saw that.

    The part that it holds waits for that clock, as it has to.
    """
    world.now = NOW + 300
    with pytest.raises(Killed):
        world.run(kind=type("Dies", (DiesWhile,), {"step": "before locking"}))
    assert world.job_table.record("j1").sent_at == NOW + 300
    world.messenger.envelopes.clear()
    world.now = NOW
    gone_on = [
        seconds for seconds in range(1, 100) if world.scheduler().resume(world.job_table.record("j1"), NOW + seconds)
    ]
    assert gone_on == [31, 91]
    assert world.messenger.envelopes[0] == {"sosw": {"job_id": "j1", "part": 1}}


def test_an_end_that_nobody_told_is_found(world: World) -> None:
    """When the last part was written by one who died before saying so, the sweep's message ends the writing."""
    scheduler = world.scheduler()
    scheduler.submit(JOB, "j1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world.job_table, "finish_writing", lambda job_id: False)
        assert scheduler.run(Envelope("j1")).state is JobState.WRITING
    world.messenger.envelopes.clear()
    assert scheduler.resume(world.job_table.record("j1"), NOW + 40) == 1
    assert world.messenger.envelopes == [{"sosw": {"job_id": "j1", "part": None}}]
    assert scheduler.run(Envelope("j1")).state is JobState.SCHEDULED


def test_one_chunks_and_the_others_wait(world: World) -> None:
    """A second message of a job that somebody is chunking does nothing."""
    scheduler = world.scheduler()
    scheduler.submit(JOB, "j1")
    world.job_table.claim_chunking("j1", "other", NOW, 30.0, ended_before=None)
    assert scheduler.run(Envelope("j1")).state is JobState.ACCEPTED
    assert world.rows() == []
    assert scheduler.resume(world.job_table.record("j1"), NOW + 31) == 0


# ---- a class to inherit from, as in sosw


class Quarters(Scheduler):
    """A subclass with a period of its own and another idea of yesterday."""

    def last_x_quarters(self, pattern: str) -> list[str]:
        """Return first days of quarters."""
        return [f"q{number}" for number in range(int(pattern.split("_")[1]))]

    def yesterday(self, pattern: str = "yesterday") -> list[str]:
        """Return something that the built-in period would not."""
        return ["never", *self.today()]

    def nothing_to_say(self) -> list[str]:
        """Return a date, without being told the period."""
        return ["2020-02-02"]


@pytest.mark.parametrize(
    ("period", "dates"),
    [
        ("last_2_quarters", ["q0", "q1"]),
        ("yesterday", ["never", "2026-03-01"]),
        ("quiet", ["2020-02-02"]),
        ("2_days_back", ["2026-02-27"]),
    ],
)
def test_periods_of_a_subclass_count(make: Callable[..., World], period: str, dates: list[str]) -> None:
    """A period method that a subclass adds or overrides decides what a run writes; the others stay."""
    patterns = {"last_[0-9]+_quarters": "last_x_quarters", "quiet": "nothing_to_say"}
    world = make(custom_period_patterns=patterns)
    world.run({"lambda_name": "resize", "period": period}, kind=Quarters)
    assert world.payloads() == [{"date_list": dates}]


def fiscal(match: Any, today: datetime.date) -> list[str]:
    """Return a date of a period that the configuration names by its dotted path."""
    return [f"fy{today.year + int(match[1])}"]


def test_periods_of_the_configuration_count(make: Callable[..., World]) -> None:
    """A function, or its dotted path, in custom_period_patterns decides what a run writes."""
    world = make(custom_period_patterns={"fy([0-9])": fiscal, "new_year": "json:loads"})
    world.run({"lambda_name": "resize", "period": "fy2"})
    assert world.payloads() == [{"date_list": ["fy2028"]}]
    assert world.scheduler()._custom_period("new_year", "json:loads") is json.loads


class OwnChunkers(Scheduler):
    """A subclass that changes each of the chunkers."""

    def chunk_dates(self, job: Any, skeleton: Any = None) -> list[dict[str, Any]]:
        """Add a day."""
        return [{**one, "day_by": "me"} for one in super().chunk_dates(job, skeleton)]

    def chunk_job(self, job: Any, skeleton: Any = None, attr: Any = None) -> list[dict[str, Any]]:
        """Turn the order around."""
        return super().chunk_job(job, skeleton, attr)[::-1]

    def construct_job_data(self, job: Any, skeleton: Any = None) -> list[dict[str, Any]]:
        """Number the tasks."""
        return [{**task, "number": number} for number, task in enumerate(super().construct_job_data(job, skeleton))]


def test_chunkers_of_a_subclass_count(make: Callable[..., World]) -> None:
    """Chunkers that a subclass overrides decide what a run writes, also when a part is made again."""
    world = make(rows_per_file=100)
    expected = [{**task, "day_by": "me", "number": number} for number, task in enumerate(reversed(EXPECTED))]
    world.run(kind=OwnChunkers)
    assert world.payloads() == expected
    assert list(world.scheduler(OwnChunkers).payloads(JOB)) == expected


def test_chunkers_know_the_schema_of_the_run(make: Callable[..., World]) -> None:
    """A node that a chunker passes on is read under the schema of its job, though it does not name it."""

    class Nodes(Scheduler):
        """Chunks the nodes below a key of its own."""

        def construct_job_data(self, job: Any, skeleton: Any = None) -> list[dict[str, Any]]:
            """Chunk each node."""
            return [task for node in job["nodes"] for task in self.chunk_job(node)]

    world = make(job_schema_variants={"words": {"chunkable_attrs": ["word"]}})
    job = {"lambda_name": "resize", "job_schema_name": "words", "nodes": [{"isolate_words": True, "words": ["a", "b"]}]}
    world.run(job, kind=Nodes)
    assert [payload["words"] for payload in world.payloads()] == [["a"], ["b"]]


def test_all_names_of_the_seed_are_there(world: World) -> None:
    """Every method and property that sosw's documentation shows exists and does what it says, outside of a run too."""
    scheduler = world.scheduler()
    assert scheduler.extract_job_from_payload({"job": json.dumps(JOB)}) == JOB
    assert scheduler.chunk_dates({"period": "yesterday"}, {"x": 1}) == [{"x": 1, "date_list": ["2026-02-28"]}]
    job = {key: value for key, value in JOB.items() if key != "lambda_name"}
    assert scheduler.chunk_job(job) == EXPECTED
    assert scheduler.construct_job_data(job) == EXPECTED
    assert scheduler.needs_chunking("shops", job)
    assert not scheduler.needs_chunking("shops", {"shops": ["a"]})
    assert scheduler.get_next_chunkable_attr("shops") == "sku"
    assert scheduler.get_next_chunkable_attr("sku") is None
    assert Scheduler.get_index_from_list("shops", ["sku", "shop"]) == 1
    assert scheduler.validate_list_of_vals({"a": None, "b": None}) == ["a", "b"]
    assert scheduler.today() == ["2026-03-01"]
    assert scheduler.yesterday() == ["2026-02-28"]
    assert scheduler.last_x_days("last_2_days") == ["2026-02-27", "2026-02-28"]
    assert scheduler.previous_x_days("previous_2_days") == ["2026-02-25", "2026-02-26"]
    assert scheduler.x_days_back("7_days_back") == ["2026-02-22"]
    assert scheduler.last_week() == [f"2026-02-{day}" for day in range(22, 29)]
    assert scheduler.get_db_field_name("task_id") == "task_id"
    assert scheduler.sufficient_execution_time_left
    scheduler.set_queue_file("some.txt")
    assert scheduler.remote_queue_file == "q/some.txt"
    assert scheduler.remote_queue_locked_file == "q/locked_some.txt"
    scheduler.set_queue_file()
    assert scheduler.remote_queue_file != "q/some.txt"


def test_rows_are_popped_from_the_top(tmp_path: Path) -> None:
    """The static method pops rows of a local file, one unless told, and an empty list at its end."""
    path = tmp_path / "rows"
    path.write_text("a\nb\nc\n")
    assert Scheduler.pop_rows_from_file(str(path)) == ["a"]
    assert Scheduler.pop_rows_from_file(str(path), rows=5) == ["b", "c"]
    assert Scheduler.pop_rows_from_file(str(path)) == []


def test_a_job_can_be_chunked_to_files_without_a_run(world: World) -> None:
    """parse_job_to_file stores the rows of a job in parts and says how many there are."""
    assert world.scheduler().parse_job_to_file(JOB) == 6
    assert len(world.files()) == 2
    with pytest.raises(RuntimeError, match="run"):
        world.scheduler().process_file()


def test_a_job_of_a_labourer_that_nobody_configured_is_not_written_into_files(world: World) -> None:
    """parse_job_to_file refuses it as submit does, with a suggestion, before a file is stored."""
    with pytest.raises(InvalidJob, match=r"job\.lambda_name: expected a labourer of the configuration"):
        world.scheduler().parse_job_to_file({**JOB, "lambda_name": "resise"})
    assert world.files() == []


@pytest.mark.parametrize(
    "context",
    [
        decimal.Context(prec=6),
        decimal.Context(prec=28, traps=[decimal.Inexact, decimal.Rounded, decimal.FloatOperation]),
    ],
    ids=["few digits", "inexact is an error"],
)
def test_a_job_is_written_in_any_decimal_context(make: Callable[..., World], context: decimal.Context) -> None:
    """Code that a labourer's module runs at import has the same thread; rows keep their places to the microsecond."""
    world = make()
    with decimal.localcontext(context):
        summary = world.run()
    assert (summary.state, summary.tasks, summary.written) == (JobState.SCHEDULED, 6, 6)
    # Two parts, of four rows and of two, each from the time of its writing on.
    assert [int((row.greenfield - NOW) * 1_000_000) for row in world.rows()] == [0, 0, 1, 1, 2, 3]


# ---- jobs that wait


def test_nothing_of_a_job_starts_before_its_time(world: World) -> None:
    """Whatever messages come; from its time on the first of them has it chunked, and no row is written twice."""
    scheduler = world.scheduler()
    scheduler.submit(JOB, "j1", not_before=NOW + 60)
    world.now += Decimal("59.999")
    summary = scheduler.run(Envelope("j1"))
    assert (summary.state, summary.tasks, summary.not_before) == (JobState.ACCEPTED, None, NOW + 60)
    assert scheduler.begin_due() == 0
    assert (world.rows(), world.files(), world.messenger.envelopes) == ([], [], [])
    world.now += Decimal("0.001")
    assert scheduler.run(Envelope("j1")).tasks == 6
    assert scheduler.run(Envelope("j1")).written == 6
    assert len(world.rows()) == 6


@pytest.mark.parametrize(("own", "shared"), [(30, 0), (0, 30)])
def test_a_clock_that_is_fast_has_no_job_start_early(world: World, own: int, shared: int) -> None:
    """It is the time when this node's clock and the one of all nodes say so."""
    true_now = [NOW]
    world.scheduler().submit(JOB, "j1", not_before=NOW + 20)
    world.now = NOW + own
    world.lease_clock = LeaseClock(lambda: world.now, lambda: true_now[0] + shared)
    scheduler = world.scheduler()
    assert scheduler.begin_due() == 0
    assert scheduler.run(Envelope("j1")).tasks is None
    true_now[0] += 20
    world.now += 20
    world.lease_clock = LeaseClock(lambda: world.now, lambda: true_now[0] + shared)
    assert world.scheduler().run(Envelope("j1")).tasks == 6


def test_a_sweep_begins_with_jobs_whose_time_has_come(world: World) -> None:
    """So one needs no message of its own, which a broker could lose."""
    scheduler = world.scheduler()
    scheduler.submit(JOB, "j1", not_before=NOW + 60)
    scheduler.submit(JOB, "j2", not_before=NOW + 61)
    world.now += 60
    assert scheduler.begin_due() == 1
    assert [Envelope.from_message(message) for message in world.messenger.envelopes] == [Envelope("j1")]
    assert scheduler.begin_due() == 0
    assert scheduler.run(Envelope("j1")).tasks == 6


def test_the_periods_of_a_job_that_waits_count_from_its_time(world: World) -> None:
    """As if it was submitted then."""
    job = {"lambda_name": "resize", "period": "today"}
    scheduler = world.scheduler()
    scheduler.submit(job, "j1", not_before=NOW + 3 * 86_400)
    world.now += 3 * 86_400
    scheduler.run(Envelope("j1"))
    today = datetime.datetime.fromtimestamp(int(NOW), datetime.timezone.utc).date()
    assert [payload["date_list"] for payload in world.payloads()] == [[f"{today + datetime.timedelta(days=3)}"]]
