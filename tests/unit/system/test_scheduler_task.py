"""The Celery task `scheduler`: stored first, published second, and the message is only a hint."""

from __future__ import annotations

import datetime
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from celery import Celery
from kombu import Connection
from moto import mock_aws

from sosw_celery.core.jobs.plan import Envelope
from sosw_celery.core.tasks.model import JobState
from sosw_celery.errors import InvalidJob, JobNotFound, StoreUnavailable
from sosw_celery.labourer.pool_memory import shared_numbers
from sosw_celery.stores.dynamodb.tables import create_tables
from sosw_celery.system import scheduler_task
from sosw_celery.system.scheduler_task import SchedulerTask
from sosw_celery.wiring.container import services_of
from sosw_celery.wiring.messenger import CeleryMessenger

JOB = {"lambda_name": "resize", "isolate_skus": True, "skus": ["a", "b", "c"]}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app of its own, with tables on moto and a broker in memory."""
    app = Celery("of-this-test", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.sosw = {
        "labourers": {"resize": {}},
        "job_schema": {"chunkable_attrs": ["sku"]},
        "queue_bucket": f"file://{tmp_path}",
        "aws_region": "eu-west-1",
    }
    with mock_aws():
        services = services_of(app)
        services.__dict__["redis"] = fakeredis.FakeRedis()  # instead of one that may be on this machine
        create_tables(services.dynamodb, services.tables)
        # No slots here: nobody is told of new rows.
        monkeypatch.setattr(CeleryMessenger, "announce", lambda *_: None)
        app.register_task(SchedulerTask())
        with app.connection_for_write() as connection, connection.SimpleQueue("sosw_scheduler") as queue:
            queue.clear()
        yield app
        app.close()


@pytest.fixture
def task(app: Celery) -> SchedulerTask:
    """The task of that app."""
    found: SchedulerTask = app.tasks["scheduler"]
    return found


def published(app: Celery) -> list[tuple[str, list[Any]]]:
    """Take the messages off the queue: their ids and arguments."""
    found = []
    connection: Connection
    with app.connection_for_read() as connection, connection.SimpleQueue("sosw_scheduler") as queue:
        while len(queue):
            message = queue.get(block=False)
            message.ack()
            found.append((message.headers["id"], json.loads(message.body)[0]))
    return found


@pytest.mark.parametrize("event", [JOB, json.dumps(JOB), {"job": JOB}, {"job": json.dumps(JOB)}])
def test_delay_stores_the_job_and_sends_a_hint(app: Celery, task: SchedulerTask, event: Any) -> None:
    """When delay returns the job is in the table, under the message's id; the message carries that id and no job."""
    result = task.delay(event)
    assert services_of(app).job_table.get(result.id).state is JobState.ACCEPTED
    assert services_of(app).job_table.body(result.id) == JOB
    assert published(app) == [(result.id, [{"sosw": {"job_id": result.id, "part": None}}])]


def test_a_job_id_of_its_own_is_used(app: Celery, task: SchedulerTask) -> None:
    """The job's own id names the job, the message has its own; submitting again sends another hint, and no job."""
    first = task.delay({**JOB, "job_id": "mine"})
    second = task.apply_async(kwargs={"event": {**JOB, "job_id": "mine"}}, task_id="message-2")
    assert services_of(app).job_table.get("mine").state is JobState.ACCEPTED
    envelope = {"sosw": {"job_id": "mine", "part": None}}
    assert published(app) == [(first.id, [envelope]), (second.id, [envelope])]
    with pytest.raises(JobNotFound):
        services_of(app).job_table.get(first.id)


def test_a_bad_job_is_raised_to_the_caller(app: Celery, task: SchedulerTask) -> None:
    """What cannot be a job raises where delay is called; nothing is stored and nothing sent."""
    with pytest.raises(InvalidJob, match="did you mean"):
        task.delay({"lambda_name": "resise"})
    with pytest.raises(TypeError):
        task.delay()
    with pytest.raises(TypeError):
        task.delay(JOB, JOB)
    assert published(app) == []


def test_a_table_that_is_away_is_raised_to_the_caller(
    app: Celery, task: SchedulerTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that could not be stored is not accepted: the caller hears of it, and no message goes out."""

    def unavailable(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("dynamodb", "accept")

    monkeypatch.setattr(services_of(app).job_table, "accept", unavailable)
    with pytest.raises(StoreUnavailable):
        task.delay(JOB)
    assert published(app) == []


def test_a_broker_that_is_away_costs_no_job(app: Celery, task: SchedulerTask, caplog: pytest.LogCaptureFixture) -> None:
    """The job is accepted though its message could not be sent; a sweep sends it once the broker is back."""
    at_once = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    nowhere = Connection("redis://127.0.0.1:9", transport_options=at_once)
    with caplog.at_level(logging.WARNING), nowhere:
        result = task.apply_async((JOB,), connection=nowhere, retry=False)
    (told,) = [record for record in caplog.records if record.name == "sosw_celery.system.scheduler_task"]
    assert "its message is sent by the next sweep: OperationalError: " in told.getMessage()
    assert told.exc_info is None  # one line
    services = services_of(app)
    accepted = services.job_table.get(result.id)
    assert accepted.state is JobState.ACCEPTED
    assert accepted.accepted_at is not None
    assert services.scheduler.resume(services.job_table.record(result.id), accepted.accepted_at + 60) == 1
    assert [args for _, args in published(app)] == [[{"sosw": {"job_id": result.id, "part": None}}]]


def test_a_result_backend_that_is_away_costs_no_job(
    app: Celery, task: SchedulerTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis as the backend raises a bare RuntimeError once it gave up: nobody may take that for a job not accepted."""

    def give_up(*_: Any) -> None:
        raise RuntimeError("Retry limit exceeded while trying to reconnect to the Celery result store backend.")

    monkeypatch.setattr(app.backend, "on_task_call", give_up)
    with caplog.at_level(logging.WARNING):
        result = task.delay(JOB)
    assert "its message is sent by the next sweep" in caplog.text
    assert services_of(app).job_table.get(result.id).state is JobState.ACCEPTED


def test_the_message_is_gone_on_with(app: Celery, task: SchedulerTask) -> None:
    """The worker's side: an envelope runs the job, and the result is its summary as JSON can hold it."""
    result = task.delay(JOB)
    ((_, args),) = published(app)
    summary = task.apply(args, task_id="other").get()
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["job_id"], summary["state"], summary["tasks"], summary["written"]) == (result.id, "scheduled", 3, 3)


def test_a_message_with_the_job_itself_is_accepted_by_the_worker(app: Celery, task: SchedulerTask) -> None:
    """Code without our class may send the job in its message: it gets the message's id, and twice is once."""
    message_id = str(uuid.uuid4())
    for _ in range(2):
        summary = task.apply([{"job": json.dumps(JOB)}], task_id=message_id).get()
        assert (summary["job_id"], summary["written"]) == (message_id, 3)
    assert services_of(app).task_table.count_queued("resize", now=services_of(app).scheduler._clock()) == 3


def test_a_scheduler_that_begins_says_so_to_the_sweep_of_jobs(app: Celery, task: SchedulerTask) -> None:
    """The mark that no job is unfinished counts for nothing from then on."""
    mark = services_of(app).idle_mark
    mark.set(0, 60)
    assert task.run(JOB)["tasks"] == 3
    assert mark.look() == (False, 1)


def test_without_redis_a_scheduler_goes_on(app: Celery, task: SchedulerTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark runs out by itself."""

    def unavailable() -> None:
        raise StoreUnavailable("redis", "clear")

    monkeypatch.setattr(services_of(app).idle_mark, "clear", unavailable)
    assert task.run(JOB)["tasks"] == 3


def test_a_bad_message_fails_its_task(task: SchedulerTask) -> None:
    """A message that is no job ends as a failed task with the reason."""
    with pytest.raises(InvalidJob):
        task.apply(["no job"]).get()


def test_the_task_is_acknowledged_late(task: SchedulerTask) -> None:
    """A worker that dies gives the message back, and the result is kept."""
    assert (task.name, task.acks_late, task.ignore_result) == ("scheduler", True, False)


def test_a_worker_that_shuts_down_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's signal in the main process is seen by its children, too: the byte is shared memory."""
    monkeypatch.setattr(scheduler_task, "_shutting_down", shared_numbers(1)[0])
    assert not scheduler_task._is_shutting_down()
    scheduler_task._note_shutdown(sig="SIGTERM", how="Warm", exitcode=0)
    assert scheduler_task._is_shutting_down()


@pytest.mark.parametrize(
    ("args", "kwargs", "found"),
    [
        ((), {}, "none"),
        ((JOB, JOB), {}, "2 positional"),
        ((JOB,), {"dry_run": True}, "1 positional, dry_run"),
        ((), {"jobs": JOB}, "jobs"),
    ],
)
def test_a_call_that_is_not_of_one_job_says_what_it_takes(
    app: Celery, task: SchedulerTask, args: tuple[Any, ...], kwargs: dict[str, Any], found: str
) -> None:
    """The error speaks of `scheduler.delay(job)` and of what it was given; nothing is accepted."""
    with pytest.raises(TypeError) as refusal:
        task.delay(*args, **kwargs)
    assert str(refusal.value) == f"scheduler.delay(job): expected one argument, the job, got {found}"
    assert published(app) == []


# ---- jobs that wait


def not_before(app: Celery, job_id: str) -> float:
    """Return when the job may start."""
    found = services_of(app).job_table.get(job_id).not_before
    assert found is not None
    return float(found)


def etas(app: Celery) -> list[tuple[str, str | None]]:
    """Take the messages off the queue: their ids, and when they are due."""
    found: list[tuple[str, str | None]] = []
    with app.connection_for_read() as connection, connection.SimpleQueue("sosw_scheduler") as queue:
        while len(queue):
            message = queue.get(block=False)
            message.ack()
            found.append((message.headers["id"], message.headers["eta"]))
    return found


def in_seconds(seconds: float, zone: datetime.timezone = datetime.timezone.utc) -> datetime.datetime:
    """Return a moment that many seconds from now."""
    return datetime.datetime.now(zone) + datetime.timedelta(seconds=seconds)


CASABLANCA = datetime.timezone(datetime.timedelta(hours=1))


@pytest.mark.parametrize(
    ("options", "wait_s"),
    [
        (lambda: {"countdown": 100}, 100),
        (lambda: {"countdown": "25"}, 25),
        (lambda: {"countdown": datetime.timedelta(hours=6)}, 21_600),
        (lambda: {"eta": in_seconds(90, CASABLANCA)}, 90),
        (lambda: {"eta": in_seconds(90).replace(tzinfo=None)}, 90),
        (lambda: {"eta": in_seconds(90).isoformat()}, 90),
        (lambda: {"eta": in_seconds(86_400)}, 86_400),
    ],
)
def test_a_time_to_wait_for_is_kept_with_the_job(
    app: Celery, task: SchedulerTask, options: Callable[[], dict[str, Any]], wait_s: float
) -> None:
    """However it is said. The message comes when it is due; none is left to the broker for long."""
    before = time.time()
    result = task.apply_async((JOB,), **options())
    assert before + wait_s - 1e-3 <= not_before(app, result.id) <= time.time() + wait_s + 1e-3
    assert services_of(app).scheduler.run(Envelope(result.id)).tasks is None
    due = etas(app)
    assert [message_id for message_id, _ in due] == ([result.id] if wait_s < 600 else [])
    for _, eta in due:
        assert eta is not None
        assert datetime.datetime.fromisoformat(eta).timestamp() > not_before(app, result.id)


@pytest.mark.parametrize("options", [{"countdown": 0}, {"countdown": -5}, {"eta": in_seconds(-60)}, {"eta": None}])
def test_a_time_that_is_past_is_now(app: Celery, task: SchedulerTask, options: dict[str, Any]) -> None:
    """Nothing waits."""
    result = task.apply_async((JOB,), **options)
    assert services_of(app).job_table.get(result.id).not_before is None
    assert etas(app) == [(result.id, None)]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"expires": 0.001}, TypeError, "scheduler: expected no expires: a job that was accepted is carried out"),
        ({"countdown": "soon"}, ValueError, "countdown: expected seconds"),
        ({"countdown": float("nan")}, ValueError, "countdown: expected seconds"),
        ({"eta": "tomorrow"}, ValueError, "eta: expected seconds"),
        ({"eta": in_seconds(1e9)}, ValueError, "of at most ten years"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(
    app: Celery, task: SchedulerTask, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Where it is said; the job is not accepted."""
    with pytest.raises(error, match=words):
        task.apply_async(({**JOB, "job_id": "mine"},), **options)
    with pytest.raises(JobNotFound):
        services_of(app).job_table.get("mine")
    assert published(app) == []
