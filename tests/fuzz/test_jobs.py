"""Jobs with faults: each becomes tasks that keep every promise, or is refused with where, what and what is expected."""

from __future__ import annotations

import datetime
import json
import tempfile
import uuid
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.jobs.payload import MAX_PAYLOAD_BYTES, payload_text
from sosw_celery.core.jobs.plan import Envelope, file_name
from sosw_celery.core.tasks.model import JobState
from sosw_celery.errors import InvalidJob
from sosw_celery.services.chunkers import Chunkers
from sosw_celery.services.scheduler import Scheduler
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.tables import Tables
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.files.queue_files import DirectoryQueueFiles
from tests.fuzz.hostile import HOSTILE, QUICK, SLOW, WORD, counted, mutated_vectors
from tests.harness.messenger import FakeMessenger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = Decimal(1_795_392_000)
#: Tasks of one job that are looked at.
LOOKED_AT = 300

quick = settings(max_examples=QUICK, suppress_health_check=list(HealthCheck), deadline=None)
slow = settings(max_examples=SLOW, suppress_health_check=list(HealthCheck), deadline=None)


def check_refusal(problem: InvalidJob) -> None:
    """Make sure that an error helps: it names a place in the job, what is expected, and is short enough to be read."""
    assert problem.path.split(".")[0] in ("job", "values", "task")
    assert problem.problem
    assert len(problem.value) <= 90
    if not any(len(step) > 100 for step in problem.path.split(".")):
        assert len(str(problem)) < 2500


def tasks_of(scheduler: Chunkers, event: Any) -> list[dict[str, Any]]:
    """Return the first tasks of an event, as a Scheduler makes them."""
    return list(islice(scheduler.payloads(scheduler.extract_job_from_payload(event)), LOOKED_AT))


@quick
@given(mutated_vectors())
def test_a_mutated_job_becomes_tasks_or_is_refused(mutated: tuple[Any, list[Any], Any]) -> None:
    """It gives payloads that JSON can say, the same ones each time and after a way through JSON; or a clear error."""
    job, levels, variants = mutated
    counted("mutated jobs, chunked")
    schemas = {name: {"chunkable_attrs": one} for name, one in variants.items() if isinstance(one, list)}
    section = {"job_schema": {"chunkable_attrs": levels}, "job_schema_variants": schemas}
    chunkers = Chunkers(load_settings(section), clock=lambda: NOW)
    try:
        tasks = tasks_of(chunkers, job)
    except InvalidJob as problem:
        check_refusal(problem)
        return
    texts = [payload_text(task) for task in tasks]
    assert all(isinstance(json.loads(text), dict) for text in texts)
    assert [payload_text(task) for task in tasks_of(chunkers, json.dumps(job))] == texts


@quick
@given(st.one_of(HOSTILE, HOSTILE.map(lambda one: {"job": one}), st.binary(max_size=40), st.text(max_size=40)))
def test_what_is_no_job_at_all_is_refused(event: Any) -> None:
    """Anything may be handed to `delay`; what is no job gives an error that says so."""
    counted("events that are no jobs")
    chunkers = Chunkers(load_settings({}), clock=lambda: NOW)
    try:
        tasks_of(chunkers, event)
    except InvalidJob as problem:
        check_refusal(problem)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [500, 5_000, 200_000])
def test_json_of_any_depth_is_refused_and_ends_no_process(opening: str, depth: int) -> None:
    """A text that is nothing but brackets is refused, however long it is."""
    with pytest.raises(InvalidJob):
        tasks_of(Chunkers(load_settings({}), clock=lambda: NOW), opening * depth)


@quick
@given(st.one_of(WORD, st.text(max_size=700)), st.integers(0, 10**6), st.integers(1, 50))
def test_no_job_id_leads_a_queue_file_out_of_its_prefix(job_id: str, part: int, generation: int) -> None:
    """Whatever a job is called, its queue file stands directly under the prefix, and no other job's has its name."""
    counted("job ids in names of files")
    try:
        name = file_name("tasks_queue.txt", job_id, generation, part)
    except UnicodeEncodeError:
        assert any("\ud800" <= letter <= "\udfff" for letter in job_id)
        return
    assert not set(name) & set('/\\\0\n:*?"<>|%')
    assert ".." not in name
    assert not name.startswith((".", "locked_"))
    assert len(name.encode()) < 240
    assert Path("/prefix", name).resolve().parent == Path("/prefix")


class Plant:
    """A Scheduler on the real engine, whose queue files somebody may spoil after they are stored."""

    def __init__(self, client: DynamoDBClient, tables: Tables, directory: Path) -> None:
        self.settings = load_settings(
            {
                "labourers": {"resize": {}},
                "job_schema": {"chunkable_attrs": ["group", "value"]},
                "rows_per_file": 7,
                "rows_to_process": 3,
                "queue_bucket": directory.as_uri(),
            }
        )
        self.spoil: Any = None
        job_table = JobTable(client, tables)
        self.job_table = job_table
        self.task_table = TaskTable(
            client, tables, delta=greenfield_delta(self.settings), job_counters=job_table.counters_update, parallel=1
        )
        self.files = _Spoiled(directory, self)
        self.scheduler = Scheduler(
            self.settings,
            task_table=self.task_table,
            job_table=job_table,
            queue_files=self.files,
            messenger=FakeMessenger(),
            clock=lambda: NOW,
        )

    def rows_of(self, job_id: str) -> list[str]:
        """Return the payloads of a job's rows in the table, in the order of their ids."""
        found = self.task_table.client.scan(
            TableName=self.task_table.tables.tasks,
            FilterExpression="job_id = :j",
            ExpressionAttributeValues={":j": {"S": job_id}},
            ConsistentRead=True,
        )
        rows = found["Items"]
        for row in rows:
            self.task_table.client.delete_item(TableName=self.task_table.tables.tasks, Key={"task_id": row["task_id"]})
        return sorted(row["payload"]["S"] for row in rows)


class _Spoiled(DirectoryQueueFiles):
    def __init__(self, path: Path, plant: Plant) -> None:
        super().__init__(path)
        self.plant = plant

    def put(self, name: str, lines: Any) -> None:
        super().put(name, lines)
        spoil, self.plant.spoil = self.plant.spoil, None
        if spoil is not None:
            place = self.path / name
            place.write_bytes(spoil(place.read_bytes()))


@pytest.fixture(scope="module")
def plant(dynamodb_client: DynamoDBClient, tables: Tables) -> Iterator[Plant]:
    """A Scheduler on the real engine."""
    with tempfile.TemporaryDirectory() as directory:
        yield Plant(dynamodb_client, tables, Path(directory))


@slow
@given(mutated=mutated_vectors())
def test_a_mutated_job_is_accepted_and_written_or_refused(plant: Plant, mutated: tuple[Any, list[Any], Any]) -> None:
    """What `submit` takes ends as exactly the rows that chunking gives, or as refused with its reason."""
    job = mutated[0]
    counted("mutated jobs, submitted")
    try:
        if isinstance(job, dict):
            job = {**job, "lambda_name": "resize"}
            job.pop("labourer_id", None)
        job_id, _ = plant.scheduler.submit(job, uuid.uuid4().hex)
    except InvalidJob as problem:
        check_refusal(problem)
        return
    try:
        summary = plant.scheduler.run(Envelope(job_id))
    except InvalidJob as problem:
        check_refusal(problem)
        record = plant.job_table.record(job_id)
        assert (record.state, bool(record.error)) == (JobState.REFUSED, True)
        assert plant.rows_of(job_id) == []
        return
    record = plant.job_table.record(job_id)
    body = plant.job_table.body(job_id)
    expected = sorted(payload_text(payload) for payload in plant.scheduler.payloads(body))
    assert summary.tasks == len(expected)
    assert record.today == datetime.date(2026, 11, 23)
    assert plant.rows_of(job_id) == expected


@st.composite
def spoilers(draw: Any) -> Any:
    """Draw a way to spoil the content of a queue file."""
    way = draw(st.sampled_from(["cut", "insert", "replace", "swap", "double", "drop", "junk", "empty", "long", "deep"]))
    at, junk = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=30))

    def spoil(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        place = int(at * (len(content) - 1))
        line = int(at * (len(lines) - 1))
        return {
            "cut": content[:place],
            "insert": content[:place] + b"\0\xff" + content[place:],
            "replace": content[:place] + b"\n\t" + content[place + 3 :],
            "swap": b"".join([*lines[line:], *lines[:line]]),
            "double": b"".join([*lines[: line + 1], *lines[line:]]),
            "drop": b"".join([*lines[:line], *lines[line + 1 :]]),
            "junk": junk,
            "empty": b"",
            "long": b'0\t{"a": "' + b"x" * (MAX_PAYLOAD_BYTES + 5000) + b'"}\n' + b"".join(lines[1:]),
            "deep": b"0\t" + b'{"a":' * 100_000 + b"\n" + b"".join(lines[1:]),
        }[way]

    return spoil


@slow
@given(spoil=spoilers(), tasks=st.integers(1, 20))
def test_a_spoilt_queue_file_loses_and_doubles_no_row(plant: Plant, spoil: Any, tasks: int) -> None:
    """Whatever happens to a queue file, the rows of its job are those that chunking gives."""
    counted("spoilt queue files")
    job = {"lambda_name": "resize", "isolate_groups": True, "groups": {f"g{n}": {"n": n} for n in range(tasks)}}
    job_id, _ = plant.scheduler.submit(job, uuid.uuid4().hex)
    plant.spoil = spoil
    summary = plant.scheduler.run(Envelope(job_id))
    assert (summary.state, summary.tasks, summary.written) == (JobState.SCHEDULED, tasks, tasks)
    assert plant.rows_of(job_id) == sorted(payload_text(payload) for payload in plant.scheduler.payloads(job))
