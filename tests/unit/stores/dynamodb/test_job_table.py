"""The table of jobs: acceptance, chunking by one, parts with one owner each, exact counters."""

from __future__ import annotations

import datetime
import random
import string
import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from sosw_celery.core.jobs.plan import Span, spans
from sosw_celery.core.tasks.model import JobState
from sosw_celery.errors import ItemCorrupt, JobNotFound, StoreError, TransitionRefused
from sosw_celery.stores.dynamodb.job_table import RUNNING, SCHEDULING, WAITING, JobRecord, JobTable, Part
from sosw_celery.stores.dynamodb.requests import transact
from sosw_celery.stores.dynamodb.tables import Tables, create_tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = Decimal("1700000000.25")
TODAY = datetime.date(2026, 3, 1)
LEASE_S = 30.0
JOB = {"lambda_name": "resize", "sections": {"b": [2, 1], "a": None}}


@pytest.fixture
def client() -> Iterator[DynamoDBClient]:
    """A client of moto."""
    with mock_aws():
        yield boto3.client("dynamodb", region_name="eu-west-1")


@pytest.fixture(params=["plain", "renamed"])
def tables(request: pytest.FixtureRequest) -> Tables:
    """Tables whose fields have our names, and tables of somebody who calls them otherwise."""
    renamed = {"job_id": "jid", "state": "job_state", "lease_until": "until", "owner": "who"}
    return Tables() if request.param == "plain" else Tables(field_names=renamed)


@pytest.fixture
def table(client: DynamoDBClient, tables: Tables) -> JobTable:
    """An empty table of jobs."""
    create_tables(client, tables)
    return JobTable(client, tables)


def accept(table: JobTable, job_id: str = "j1", job: dict[str, Any] | None = None, now: Decimal = NOW) -> bool:
    """Accept a job with the usual values."""
    return table.accept(job_id, job or JOB, "resize", now, TODAY)


def chunked(table: JobTable, job_id: str = "j1", *, tasks: int = 25, rows_per_part: int = 10) -> JobRecord:
    """Accept a job and fix its parts."""
    accept(table, job_id)
    claimed = claim_chunking(table, "me", job_id=job_id)
    assert claimed is not None
    return table.begin_writing(
        claimed, "me", now=NOW, tasks=tasks, rows_per_part=rows_per_part, batch_rows=4, warnings=["careful"]
    )


def try_claim(table: JobTable, part: int, owner: str, now: Decimal, job_id: str = "j1") -> Part | None:
    """Claim a part whose lease is over by now, if there was one."""
    return table.claim_part(table.record(job_id), part, owner, now, LEASE_S, ended_before=now)


def claim_chunking(table: JobTable, owner: str, now: Decimal = NOW, job_id: str = "j1") -> JobRecord | None:
    """Claim the chunking of a job, the lease of whoever was at it being over by now."""
    return table.claim_chunking(job_id, owner, now, LEASE_S, ended_before=now)


def claim(table: JobTable, part: int = 0, owner: str = "me", now: Decimal = NOW, job_id: str = "j1") -> Part:
    """Claim a part that is free."""
    claimed = try_claim(table, part, owner, now, job_id)
    assert claimed is not None
    return claimed


# ---- accepting


def test_an_accepted_job_can_be_read_back(table: JobTable) -> None:
    """The body comes back with the order of its keys, the item with its times, exactly."""
    assert accept(table)
    assert table.body("j1") == JOB
    assert list(table.body("j1")["sections"]) == ["b", "a"]
    record = table.record("j1")
    assert (record.state, record.accepted_at, record.today) == (JobState.ACCEPTED, NOW, TODAY)
    summary = table.get("j1")
    assert (summary.labourer_id, summary.tasks, summary.written, summary.warnings) == ("resize", None, 0, ())


def test_accepting_again_changes_nothing(table: JobTable) -> None:
    """The second submit of a job_id is told so, and the first one's job stays, also when the second one differs."""
    assert accept(table)
    assert not accept(table, job={"lambda_name": "resize", "other": 1}, now=NOW + 5)
    assert table.body("j1") == JOB
    assert table.record("j1").accepted_at == NOW


def test_a_body_of_any_size_is_kept(table: JobTable, client: DynamoDBClient, tables: Tables) -> None:
    """A job that does not fit into one item, even compressed, comes back whole, and a lost submit leaves no piece."""
    noise = random.Random(7)
    big = {"lambda_name": "resize", "words": ["".join(noise.choices(string.printable, k=90)) for _ in range(15_000)]}
    assert accept(table, job=big)
    assert not accept(table, job={**big, "more": 1})
    assert table.body("j1") == big
    pages = client.get_paginator("scan").paginate(TableName=tables.jobs)
    keys = [item[tables.field("job_id")]["S"] for page in pages for item in page["Items"]]
    pieces = sorted(key for key in keys if "#body#" in key)
    assert len(pieces) > 2
    assert len({piece.split("#")[2] for piece in pieces}) == 1


def test_a_labourer_begins_once(table: JobTable) -> None:
    """Only the first one who asks is told that it never had slots; what notes that is no job."""
    assert [table.begin_labourer(name, NOW) for name in ("resize", "resize", "crop")] == [True, False, True]
    assert table.unfinished() == []
    with pytest.raises(JobNotFound):
        table.get("#labourer#resize")


def test_a_refused_job_gives_way(table: JobTable, client: DynamoDBClient, tables: Tables) -> None:
    """The id of a refused job may be submitted again, with another body; nothing of the refused one stays."""
    accept(table)
    claimed = claim_chunking(table, "a")
    assert claimed is not None
    table.refuse(claimed, "job.skus: bad", ["careful"])
    assert table.get("j1").state is JobState.REFUSED
    assert table.get("j1").error == "job.skus: bad"
    assert table.get("j1").warnings == ("careful",)
    assert table.unfinished() == []
    assert table.finish_if_done("j1", NOW)  # it has ended before
    assert accept(table, job={"lambda_name": "resize", "x": 1}, now=NOW + 5)
    assert table.body("j1") == {"lambda_name": "resize", "x": 1}
    assert table.get("j1").error == ""
    assert table.get("j1").warnings == ()
    assert len([item for item in client.scan(TableName=tables.jobs)["Items"] if "piece" in item]) == 1


def test_many_submits_at_once_are_one(table: JobTable) -> None:
    """Of submits at the same time with different bodies one wins, and the body is the winner's."""
    results: dict[int, bool] = {}

    def submit(number: int) -> None:
        results[number] = accept(table, job={"lambda_name": "resize", "number": number})

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number, won in results.items() if won]
    assert table.body("j1")["number"] == winner


def test_unknown_jobs_are_not_found(table: JobTable, client: DynamoDBClient) -> None:
    """A job that nobody accepted is not found, also when counters of it have been added."""
    transact(client, [{"Update": table.counters_update("ghost", 1, 0)}], "archive")  # type: ignore[typeddict-item]
    for job_id in ("nobody", "ghost"):
        with pytest.raises(JobNotFound):
            table.get(job_id)
        with pytest.raises(JobNotFound):
            table.body(job_id)
    assert accept(table, "ghost")


def test_a_damaged_body_is_told_apart(table: JobTable, client: DynamoDBClient, tables: Tables) -> None:
    """A body with a piece missing is corrupt: trying again does not help."""
    accept(table)
    for item in client.scan(TableName=tables.jobs)["Items"]:
        if "piece" in item:
            client.delete_item(TableName=tables.jobs, Key={tables.field("job_id"): item[tables.field("job_id")]})
    with pytest.raises(ItemCorrupt):
        table.body("j1")


# ---- chunking


def test_one_chunks_at_a_time(table: JobTable) -> None:
    """While one gives signs of life nobody else gets the chunking; when it falls silent, the next generation begins."""
    accept(table)
    first = claim_chunking(table, "a")
    assert first is not None
    assert first.generation == 1
    assert claim_chunking(table, "b", NOW + 29) is None
    table.renew_chunking("j1", "a", NOW + 29, LEASE_S)
    assert claim_chunking(table, "b", NOW + 31) is None
    second = claim_chunking(table, "b", NOW + 60)
    assert second is not None
    assert second.generation == 2
    with pytest.raises(TransitionRefused):
        table.renew_chunking("j1", "a", NOW + 60, LEASE_S)
    with pytest.raises(TransitionRefused):
        table.begin_writing(first, "a", now=NOW, tasks=3, rows_per_part=1, batch_rows=1)
    assert table.record("j1").state is JobState.ACCEPTED


def test_released_chunking_is_free_at_once(table: JobTable) -> None:
    """Who gives the chunking back leaves it to anybody; who has lost it cannot."""
    accept(table)
    claim_chunking(table, "a")
    table.release_chunking("j1", "b")
    assert claim_chunking(table, "b") is None
    table.release_chunking("j1", "a")
    assert claim_chunking(table, "b") is not None


def test_parts_cover_the_job(table: JobTable) -> None:
    """The parts hold each row once, the last one what is left."""
    record = chunked(table)
    assert (record.state, record.tasks, record.parts, record.rows_per_part) == (JobState.WRITING, 25, 3, 10)
    parts = [claim(table, number) for number in range(3)]
    assert [(part.first_row, part.rows) for part in parts] == [(0, 10), (10, 10), (20, 5)]
    assert [row for part in parts for row in range(part.next_row, part.end_row)] == list(range(25))
    assert try_claim(table, 3, "me", NOW) is None
    assert table.get("j1").warnings == ("careful",)


def test_begin_writing_twice_is_once(table: JobTable) -> None:
    """Beginning to write again (an answer was lost) changes nothing, also when a part is under way."""
    accept(table)
    claimed = claim_chunking(table, "me")
    assert claimed is not None
    begin: dict[str, Any] = {"now": NOW, "tasks": 25, "rows_per_part": 10, "batch_rows": 4}
    first = table.begin_writing(claimed, "me", **begin)
    table.checkpoint(claim(table), 4, NOW, LEASE_S)
    assert table.begin_writing(claimed, "me", **begin) == first
    assert table.get("j1").written == 4


def test_a_new_chunking_replaces_the_parts_of_a_dead_one(table: JobTable) -> None:
    """Parts that a dead chunker had stored give way to those of the next, whose sizes may be others."""
    accept(table)
    dead = claim_chunking(table, "a")
    assert dead is not None
    for index, span in enumerate(spans(15, 5)):
        table._put_part(dead, index, span, 4)  # what a death before the change of the state leaves behind
    alive = claim_chunking(table, "b", NOW + 31)
    assert alive is not None
    table.begin_writing(alive, "b", now=NOW, tasks=15, rows_per_part=10, batch_rows=4)
    table._put_part(dead, 0, Span(0, 5), 4)  # it was only slow
    assert [(claim(table, n).first_row, claim(table, n).rows) for n in range(2)] == [(0, 10), (10, 5)]


def test_a_new_life_meets_no_parts_of_a_refused_one(table: JobTable) -> None:
    """A job that was refused after a death amid its parts has the parts of its new chunking only, and ends.

    Neither the parts that the dead one left nor what it does when it was only slow count for the new life.
    """
    accept(table)
    dead = claim_chunking(table, "a")
    assert dead is not None
    for index, span in enumerate(spans(15, 5)):
        table._put_part(dead, index, span, 4)
    refusing = claim_chunking(table, "b", NOW + 31)
    assert refusing is not None
    table.refuse(refusing, "job.skus: bad")
    assert accept(table, now=NOW + 40)
    anew = claim_chunking(table, "c", NOW + 40)
    assert anew is not None
    table.begin_writing(anew, "c", now=NOW + 40, tasks=7, rows_per_part=4, batch_rows=2)
    table._put_part(dead, 1, Span(5, 5), 4)
    for late in (
        lambda: table.refuse(refusing, "job.skus: bad"),
        lambda: table.begin_writing(dead, "a", now=NOW + 40, tasks=15, rows_per_part=5, batch_rows=4),
    ):
        with pytest.raises(TransitionRefused):
            late()
    parts = [claim(table, number, now=NOW + 50) for number in range(2)]
    assert [(part.first_row, part.rows, part.batch_rows, part.claims) for part in parts] == [(0, 4, 2, 1), (4, 3, 2, 1)]
    assert try_claim(table, 2, "me", NOW + 50) is None, "a part that only the first life had"
    assert [table.finish_part(part) for part in parts] == [False, True]
    assert (table.get("j1").state, table.get("j1").written) == (JobState.SCHEDULED, 7)


def test_a_refusal_that_comes_late_does_not_meet_the_next_life(table: JobTable) -> None:
    """Whoever refuses a job that was refused and submitted again meanwhile refuses nothing."""
    accept(table)
    slow = claim_chunking(table, "a")
    assert slow is not None
    quick = claim_chunking(table, "b", NOW + 31)
    assert quick is not None
    table.refuse(quick, "job.skus: bad")
    table.refuse(quick, "job.skus: bad")  # its answer was lost
    assert accept(table, now=NOW + 40)
    with pytest.raises(TransitionRefused):
        table.refuse(slow, "job.skus: bad")
    assert table.record("j1").state is JobState.ACCEPTED


def test_many_submits_of_a_refused_job_are_one(table: JobTable) -> None:
    """Of submits at the same time that take a refused job's place one does, and what was known stays known."""
    accept(table)
    claimed = claim_chunking(table, "a")
    assert claimed is not None
    table.refuse(claimed, "job.skus: bad")
    won: list[int] = []

    def submit(number: int) -> None:
        if accept(table, job={"lambda_name": "resize", "number": number}):
            won.append(number)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert table.body("j1")["number"] == won[0]
    assert not accept(table)


# ---- parts


def test_a_part_has_one_owner(table: JobTable) -> None:
    """A part that is held is nobody else's, until its lease is over; then the old owner's writes are refused."""
    chunked(table)
    mine = claim(table, owner="a")
    assert mine.claims == 1
    assert try_claim(table, 0, "b", NOW + 29) is None
    mine = table.checkpoint(mine, 4, NOW + 29, LEASE_S)
    assert try_claim(table, 0, "b", NOW + 31) is None
    table.renew_part(mine, NOW + 40, LEASE_S)
    assert try_claim(table, 0, "b", NOW + 69) is None
    theirs = claim(table, owner="b", now=NOW + 71)
    assert (theirs.written, theirs.claims, theirs.next_row) == (4, 2, 4)
    for refused in (
        lambda: table.checkpoint(mine, 8, NOW, LEASE_S),
        lambda: table.renew_part(mine, NOW, LEASE_S),
        lambda: table.finish_part(mine),
    ):
        with pytest.raises(TransitionRefused):
            refused()
    table.release_part(mine)
    assert try_claim(table, 0, "c", NOW + 72) is None


def test_nobody_takes_over_whose_clock_says_nothing(table: JobTable) -> None:
    """Without a time before which leases have ended only what nobody holds is given away."""
    record = chunked(table)
    claim(table, owner="a")
    late = NOW + 10_000
    assert table.claim_part(record, 0, "b", late, LEASE_S, ended_before=None) is None
    assert table.open_parts("j1", ended_before=None) == [1, 2]
    assert table.claim_part(record, 1, "b", late, LEASE_S, ended_before=None) is not None


def test_a_claim_whose_answer_was_lost_is_made_again(table: JobTable) -> None:
    """The same claim once more has the part: it is its own."""
    record = chunked(table)
    for _ in range(2):
        assert table.claim_part(record, 0, "a", NOW, LEASE_S, ended_before=None) is not None


def test_a_released_part_is_free_at_once(table: JobTable) -> None:
    """Who gives a part back leaves its checkpoint to the next."""
    chunked(table)
    mine = table.checkpoint(claim(table, owner="a"), 8, NOW, LEASE_S)
    assert table.open_parts("j1", ended_before=NOW) == [1, 2]
    table.release_part(mine)
    assert table.open_parts("j1", ended_before=NOW) == [0, 1, 2]
    assert claim(table, owner="b").written == 8


def test_the_last_part_ends_the_writing(table: JobTable) -> None:
    """The job is scheduled when its last part is written, not before, and each part counts once."""
    record = chunked(table)
    parts = [claim(table, number) for number in range(3)]
    assert not table.finish_part(parts[2])
    assert not table.finish_part(parts[0])
    with pytest.raises(TransitionRefused):
        table.finish_part(parts[0])
    assert table.get("j1").state is JobState.WRITING
    assert table.get("j1").written == 15
    assert table.open_parts("j1", ended_before=NOW + 100) == [1]
    assert table.finish_part(parts[1])
    assert table.get("j1").state is JobState.SCHEDULED
    assert table.get("j1").written == 25
    assert try_claim(table, 0, "late", NOW + 100) is None
    assert table.finish_writing("j1")
    with pytest.raises(TransitionRefused):
        table.refuse(record, "too late")


def test_hundreds_of_parts_are_read_in_batches(table: JobTable) -> None:
    """A job with more parts than one batch call reads has them all, in order."""
    chunked(table, tasks=230, rows_per_part=1)
    assert table.open_parts("j1", ended_before=NOW) == list(range(230))
    table.checkpoint(claim(table, 229), 1, NOW, LEASE_S)
    assert table.get("j1").written == 1


def test_only_one_of_many_gets_a_part(table: JobTable) -> None:
    """Of owners who claim a part at the same time, one gets it."""
    chunked(table)
    won: list[str] = []

    def try_it(owner: str) -> None:
        if try_claim(table, 0, owner, NOW):
            won.append(owner)

    threads = [threading.Thread(target=try_it, args=(f"o{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


# ---- closing


def written(table: JobTable, job_id: str = "j1", tasks: int = 3) -> None:
    """Bring a job to where all its rows are written."""
    chunked(table, job_id, tasks=tasks)
    assert table.finish_part(claim(table, job_id=job_id))


def count(table: JobTable, completed: int, dead: int, job_id: str = "j1") -> None:
    """Add closed tasks to a job, as the archiving transaction does."""
    transact(
        table.client,
        [{"Update": table.counters_update(job_id, completed, dead)}],  # type: ignore[typeddict-item]
        "archive",
    )


@pytest.mark.parametrize(("dead", "state"), [(0, JobState.COMPLETED), (1, JobState.COMPLETED_WITH_DEAD)])
def test_a_job_ends_with_its_last_task(table: JobTable, dead: int, state: JobState) -> None:
    """The job ends when every task is closed, says whether some are dead, and leaves the index of unfinished jobs."""
    written(table)
    count(table, 2, 0)
    assert not table.finish_if_done("j1", NOW)
    assert table.unfinished() == ["j1"]
    count(table, 1 - dead, dead)
    assert table.finish_if_done("j1", NOW)
    assert table.finish_if_done("j1", NOW)
    summary = table.get("j1")
    assert (summary.state, summary.completed, summary.dead) == (state, 3 - dead, dead)
    assert table.unfinished() == []


def test_tasks_may_be_closed_before_the_last_row_is_written(table: JobTable) -> None:
    """Counts that are complete while rows are still being written do not end the job early."""
    chunked(table, tasks=3)
    count(table, 3, 0)
    assert not table.finish_if_done("j1", NOW)
    assert table.finish_part(claim(table))
    assert table.finish_if_done("j1", NOW)


def test_the_index_holds_open_jobs_only(table: JobTable) -> None:
    """The sparse index has each open job once, no helper item, in the order of acceptance, stage by stage."""
    accept(table, "later", now=NOW + 9)
    accept(table, "sooner", now=NOW + 1)
    written(table, "running")
    assert table.unfinished() == ["sooner", "later", "running"]
    assert table.unfinished(stages=(SCHEDULING,)) == ["sooner", "later"]
    assert table.unfinished(stages=(RUNNING,)) == ["running"]
    assert table.unfinished(1) == ["sooner", "running"]


def test_one_sweep_sends_again(table: JobTable) -> None:
    """Of sweeps that find the same silent job one sends its message, and none once the job has moved on."""
    accept(table)
    seen = table.record("j1")
    assert table.note_resent(seen, NOW + 40)
    assert not table.note_resent(seen, NOW + 40)
    again = table.record("j1")
    assert (again.resent, again.sent_at) == (1, NOW + 40)
    assert table.note_resent(again, NOW + 100)
    assert not table.note_resent(replace(again, state=JobState.WRITING), NOW + 100)
    assert table.record("j1").resent == 2


def test_errors_of_the_vendor_end_here(client: DynamoDBClient) -> None:
    """A table that is not there is an error of the store, with the vendor's code."""
    with pytest.raises(StoreError) as caught:
        JobTable(client, Tables(jobs="nowhere")).get("j1")
    assert caught.value.code == "ResourceNotFoundException"


def test_the_job_item_stays_small(table: JobTable, client: DynamoDBClient, tables: Tables) -> None:
    """Counting a closed task costs one write unit: the item has less than 1 KB, however big job and warnings are."""
    accept(table, job={**JOB, "text": "x" * 100_000})
    claimed = claim_chunking(table, "me")
    assert claimed is not None
    table.begin_writing(
        claimed, "me", now=NOW, tasks=10**6, rows_per_part=10**5, batch_rows=4, warnings=["w" * 400] * 50
    )
    item = client.get_item(TableName=tables.jobs, Key={tables.field("job_id"): {"S": "j1"}})["Item"]
    assert len(str(item)) < 1000


def test_unfinished_jobs_are_read_on_from_a_place(table: JobTable) -> None:
    """Piece by piece, the first accepted coming first; and the place is a text."""
    for number in range(5):
        accept(table, f"j{number}", now=NOW + number)
    found, place = table.unfinished_from("", 2, stage=SCHEDULING)
    assert found == ["j0", "j1"]
    assert isinstance(place, str)
    found, place = table.unfinished_from(place, 2, stage=SCHEDULING)
    assert found == ["j2", "j3"]
    assert table.unfinished_from(place, 2, stage=SCHEDULING) == (["j4"], "")
    assert table.unfinished_from("nonsense", 2, stage=SCHEDULING)[0] == ["j0", "j1"]
    assert table.unfinished_from("", 2, stage=RUNNING) == ([], "")


def test_the_items_of_unfinished_jobs_are_read_together(table: JobTable, client: DynamoDBClient) -> None:
    """A hundred in one call; those that are gone are left out, those that cannot be read are set aside."""
    names = [f"j{number}" for number in range(102)]
    for name in names:
        accept(table, name)
    client.delete_item(TableName=table.tables.jobs, Key={table.tables.field("job_id"): {"S": "j1"}})
    for name, field in (("j0", "accepted_at"), ("j5", "state")):
        client.update_item(
            TableName=table.tables.jobs,
            Key={table.tables.field("job_id"): {"S": name}},
            UpdateExpression="REMOVE #field",
            ExpressionAttributeNames={"#field": table.tables.field(field)},
        )
    calls: list[str] = []
    client.meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    records = list(table.unfinished_records(names))
    assert {record.job_id for record in records} == set(names) - {"j0", "j1", "j5"}
    assert calls.count("BatchGetItem") == 2
    assert calls.count("GetItem") == 0
    left = table.unfinished()
    assert not {"j0", "j1", "j5"} & set(left)
    assert len(left) == 99


# ---- jobs that wait


def wait(table: JobTable, job_id: str, seconds: int) -> Decimal:
    """Accept a job that waits, and return until when."""
    until = NOW + seconds
    assert table.accept(job_id, JOB, "resize", NOW, TODAY, not_before=until)
    return until


def test_a_job_that_waits_is_accepted_and_found_when_its_time_comes(table: JobTable) -> None:
    """It is in nobody's way until then; those whose time comes first are found first."""
    accept(table, "at once")
    wait(table, "tomorrow", 86_400), wait(table, "soon", 60), wait(table, "next week", 604_800)
    assert table.unfinished(stages=(SCHEDULING,)) == ["at once"]
    assert table.unfinished(stages=(WAITING,)) == ["soon", "tomorrow", "next week"]
    assert table.next_due() == NOW + 60
    assert table.due(NOW + 59, 10) == []
    assert table.due(NOW + 60, 10) == ["soon"]
    assert table.due(NOW + 604_800, 2) == ["soon", "tomorrow"]
    assert table.body("soon") == JOB


def test_a_job_that_waited_is_one_like_any_other(table: JobTable) -> None:
    """It keeps when it was accepted, and what it waited for; to release it twice is to release it once."""
    until = wait(table, "j1", 60)
    waiting = table.record("j1")
    assert (waiting.is_waiting, waiting.not_before, waiting.accepted_at) == (True, until, NOW)
    assert (table.get("j1").state, table.get("j1").not_before) == (JobState.ACCEPTED, until)
    for _ in range(2):
        released = table.release("j1", until)
        assert (released.is_waiting, released.not_before, released.accepted_at) == (False, until, NOW)
        assert released.sent_at == until
    assert table.next_due() is None
    assert table.unfinished(stages=(SCHEDULING,)) == ["j1"]
    with pytest.raises(JobNotFound):
        table.release("never accepted", NOW)


def test_a_known_job_waits_as_it_was_accepted(table: JobTable) -> None:
    """Submitting it again, with another time or none, changes nothing."""
    until = wait(table, "j1", 60)
    assert not accept(table)
    assert not table.accept("j1", JOB, "resize", NOW, TODAY, not_before=NOW + 1)
    assert table.record("j1").not_before == until
