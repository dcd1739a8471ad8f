"""The table of jobs: what was accepted, how far it is, and who works on which part of it.

Items of one job, by their `job_id`:

    JOB                 state and counters; small, because every added count pays for its size
    JOB#body#SUBMIT#0   the job itself as gzipped JSON, in pieces
    JOB#part#00000      rows, checkpoint, owner and lease of one part
    JOB#warnings        what its chunking warned of, if it did

And one item of each labourer, `#labourer#LABOURER_ID`: since when it has slots. No job can have such an id.

An accepted job survives everything: its body is stored before its item, and its item before anybody is told of it. Its
`unfinished` puts it into a sparse index: "1" while its rows are not all written, "2" until its tasks are all closed.

Moves that somebody else made first raise `TransitionRefused`, or return what their docstrings say.
"""

from __future__ import annotations

import datetime
import gzip
import json
import logging
import re
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from sosw_celery.core.exact import EXACT
from sosw_celery.core.jobs.plan import Span, spans
from sosw_celery.core.tasks.model import JobState, JobSummary
from sosw_celery.errors import (
    ContentRefused,
    ItemCorrupt,
    JobNotFound,
    StoreError,
    TransactionRefused,
    TransitionRefused,
)
from sosw_celery.stores.dynamodb.attributes import Item, number
from sosw_celery.stores.dynamodb.requests import get_all, patiently, query_items, transact, translated
from sosw_celery.stores.dynamodb.tables import Tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["RUNNING", "SCHEDULING", "WAITING", "JobRecord", "JobTable", "Part", "is_free"]

logger = logging.getLogger(__name__)

#: Bytes of one piece of a body: an item may have 400 KB.
PIECE_BYTES = 350 * 1024
#: Warnings kept of one job, and characters of each: together less than an item may hold.
MOST_WARNINGS = 100
LONGEST_WARNING = 500
#: Characters of an error that are kept.
LONGEST_ERROR = 2000

#: Values of `unfinished`: rows are still to be written; tasks are still to be closed; nothing may start yet.
SCHEDULING, RUNNING, WAITING = "1", "2", "0"


@dataclass(frozen=True)
class JobRecord:
    """A job's own item.

    Parameters:
        today: What the job's periods count from, fixed when it was accepted.
        generation: Which chunking of the job is under way, or was the last; 0 before the first.
        spawned: Tasks that running ones of it asked for, besides `tasks`.
        lease_until: When the one who chunks it has to have given a sign of life.
        not_before: When it may be chunked; None: from the beginning.
        is_waiting: That time has not come yet, or nobody has noticed.
        sent_at: When messages about it were sent last, or from when on its silence counts.
        resent: How often they were sent again because it was silent.
        warned: How many warnings its chunking left.
    """

    job_id: str
    labourer_id: str
    state: JobState
    accepted_at: Decimal
    today: datetime.date
    generation: int = 0
    tasks: int | None = None
    parts: int = 0
    rows_per_part: int = 0
    completed: int = 0
    dead: int = 0
    spawned: int = 0
    not_before: Decimal | None = None
    is_waiting: bool = False
    lease_until: Decimal | None = None
    sent_at: Decimal = Decimal(0)
    resent: int = 0
    warned: int = 0
    error: str = ""

    @property
    def all_closed(self) -> bool:
        """Whether as many tasks are closed as it has. A task that spawns another one is not closed at that time."""
        return self.completed + self.dead >= (self.tasks or 0) + self.spawned

    @property
    def is_being_scheduled(self) -> bool:
        """Whether rows of it are still to be written."""
        return self.state in (JobState.ACCEPTED, JobState.WRITING)


@dataclass(frozen=True)
class Part:
    """A part of a job, as its owner holds it.

    Parameters:
        written: Rows of it that are in the tasks table for certain.
        batch_rows: Rows that are written between two checkpoints, whoever the owner is: so at most as many rows behind
            `written` may be in the table already.
        claims: How often it was claimed; 1 tells that nobody can have written a row of it before.
    """

    job_id: str
    number: int
    first_row: int
    rows: int
    batch_rows: int
    written: int = 0
    owner: str = ""
    claims: int = 0

    @property
    def key(self) -> str:
        """The name of the part's item."""
        return _part_key(self.job_id, self.number)

    @property
    def next_row(self) -> int:
        """The number of the first row behind the checkpoint."""
        return self.first_row + self.written

    @property
    def end_row(self) -> int:
        """The number behind its last row."""
        return self.first_row + self.rows


class JobTable:
    """The jobs of one configuration. Safe to share between threads. Reads are consistent, but for `unfinished`."""

    def __init__(self, client: DynamoDBClient, tables: Tables) -> None:
        self.client = client
        self.tables = tables

    # ---- accepting

    def accept(
        self,
        job_id: str,
        job: Mapping[str, Any],
        labourer_id: str,
        now: Decimal,
        today: datetime.date,
        *,
        not_before: Decimal | None = None,
    ) -> bool:
        """Store a job for good, unless one of this id is known. Idempotent.

        Returns True when it is newly accepted, False when it was known; then that one stays as it is. A refused one
        counts as not known.

        Parameters:
            job: JSON can hold it, without NaN and infinities; the order of its keys is kept.
            not_before: Until `release` it stays as it is; None: it may be chunked at once.
        """
        text = json.dumps(job, separators=(",", ":"), allow_nan=False)
        packed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
        pieces = [packed[start : start + PIECE_BYTES] for start in range(0, len(packed), PIECE_BYTES)]
        # A name of its own for each submit: two of one job_id at the same time cannot mix their bodies up.
        submit = secrets.token_hex(6)
        for index, piece in enumerate(pieces):
            self._put("accept", {"job_id": {"S": _body_key(job_id, submit, index)}, "piece": {"B": piece}})
        job_item = {
            "job_id": {"S": job_id},
            "labourer_id": {"S": labourer_id},
            "state": {"S": JobState.ACCEPTED.value},
            "accepted_at": number(now),
            "sent_at": number(now),
            "today": {"S": today.isoformat()},
            "unfinished": {"S": SCHEDULING},
            "submit": {"S": submit},
            "pieces": number(len(pieces)),
        }
        if not_before is not None:
            # The index has jobs in the order of `accepted_at`: those that wait stand there by the time they wait for.
            job_item |= {"unfinished": {"S": WAITING}, "not_before": number(not_before)}
            job_item |= {"accepted_at": number(not_before), "submitted_at": number(now)}
        accepted, before = self._put_unless_known(job_item)
        if before:  # the body of whoever did not win is of no use any more
            self._drop_body(job_id, before if accepted else job_item)
        return accepted

    def body(self, job_id: str) -> dict[str, Any]:
        """Return the job as it was accepted.

        Raises:
            JobNotFound: No job of this id was accepted.
            ItemCorrupt: Its body cannot be read.
        """
        item = self._job_item(job_id)
        submit, count = item["submit"]["S"], int(item["pieces"]["N"])
        try:
            pieces = [self._item(_body_key(job_id, submit, index))["piece"]["B"] for index in range(count)]
            job: dict[str, Any] = json.loads(gzip.decompress(b"".join(pieces)))
        except (KeyError, ValueError, OSError, EOFError, zlib.error) as error:
            raise ItemCorrupt("dynamodb", f"reading the body of job {job_id}: {error!r}") from error
        return job

    # ---- looking

    def record(self, job_id: str) -> JobRecord:
        """Return the job's own item.

        Raises:
            JobNotFound: No job of this id was accepted.
        """
        return self._record(self._job_item(job_id))

    def get(self, job_id: str) -> JobSummary:
        """Return where the job stands.

        Raises:
            JobNotFound: No job of this id was accepted.
        """
        record = self.record(job_id)
        return JobSummary(
            job_id=job_id,
            labourer_id=record.labourer_id,
            state=record.state,
            tasks=None if record.tasks is None else record.tasks + record.spawned,
            written=self._written(record) + record.spawned,
            completed=record.completed,
            dead=record.dead,
            accepted_at=record.accepted_at,
            not_before=record.not_before,
            warnings=self._warnings(job_id) if record.warned else (),
            error=record.error,
        )

    def unfinished(self, limit: int = 1000, *, stages: Sequence[str] = (SCHEDULING, RUNNING, WAITING)) -> list[str]:
        """Return ids of jobs that have not ended, at most `limit` of each stage, the first accepted coming first.

        The index may be a moment behind: look at a job's record before acting on it.

        Parameters:
            stages: `SCHEDULING`: not all rows are written. `RUNNING`: they are, but not all tasks are closed.
                `WAITING`: their time has not come.
        """
        return [job_id for stage in stages for job_id in islice(self._unfinished(stage), limit)]

    def unfinished_from(self, place: str, limit: int, *, stage: str) -> tuple[list[str], str]:
        """Return ids of jobs of one stage that have not ended, and the place behind them.

        Parameters:
            place: As the call before gave it; empty: the first accepted job. One that cannot be used is the beginning.
            limit: Ids at most.

        Returns the ids, the first accepted coming first, and where to read on; empty at the end.
        """
        query = self._unfinished_query(stage) | {"Limit": limit}
        try:
            with translated("Query"):
                answer = self.client.query(**query, **({"ExclusiveStartKey": json.loads(place)} if place else {}))
        except (ValueError, ContentRefused):
            if not place:
                raise
            return self.unfinished_from("", limit, stage=stage)
        found = [item[self.tables.field("job_id")]["S"] for item in answer["Items"]]
        end = answer.get("LastEvaluatedKey")
        return found, json.dumps(end) if end else ""

    def unfinished_records(self, job_ids: Sequence[str]) -> Iterator[JobRecord]:
        """Yield the items of jobs that the index of unfinished ones shows, read in batches; those that are gone not.

        One that cannot be read (somebody changed it by hand) is taken out of the index with the reason as its error, so
        that it is in nobody's way; its tasks go on.
        """
        return self._records(job_ids, self._set_aside)

    def records(self, job_ids: Sequence[str]) -> Iterator[JobRecord]:
        """Yield the items of jobs, read in batches; those that are gone or cannot be read not."""
        return self._records(job_ids, lambda job_id, problem: None)

    def _records(
        self, job_ids: Sequence[str], when_corrupt: Callable[[str, ItemCorrupt], object]
    ) -> Iterator[JobRecord]:
        for item in self._items(job_ids):
            try:
                yield self._record(item)
            except ItemCorrupt as problem:
                when_corrupt(item["job_id"]["S"], problem)

    def _set_aside(self, job_id: str, problem: ItemCorrupt) -> None:
        condition = "attribute_exists(#unfinished)"
        reason = {":error": {"S": str(problem)[:LONGEST_ERROR]}}
        try:
            if self._update("set aside", job_id, "SET #error = :error REMOVE #unfinished", condition, reason):
                logger.error("job set aside: %s", problem, extra={"job_id": job_id})
        except StoreError as refusal:
            # It is met again by the next look. Nothing that is behind it waits for that.
            logger.error("job that cannot be read is not set aside for now: %s", refusal, extra={"job_id": job_id})

    def open_parts(self, job_id: str, *, ended_before: Decimal | None) -> list[int]:
        """Return the numbers of the parts that are not written, and that `claim_part` gives to anybody."""
        unwritten = self.unwritten_parts(self.record(job_id))
        return [part for part, held_until in unwritten.items() if is_free(held_until, ended_before)]

    def unwritten_parts(self, record: JobRecord) -> dict[int, Decimal | None]:
        """Return for each part that is not written until when somebody holds it; None: nobody does."""
        items = (item for item in self._part_items(record) if "done" not in item)
        return {int(item["part"]["N"]): _time(item, "lease_until") for item in items}

    # ---- labourers

    def begin_labourer(self, labourer_id: str, now: Decimal) -> bool:
        """Note since when a labourer has slots; return whether it never had any before. Once True, never again."""
        key, values = f"#labourer#{labourer_id}", {":now": number(now)}
        return (
            self._update("begin labourer", key, "SET #since = :now", "attribute_not_exists(#since)", values) is not None
        )

    # ---- jobs that wait

    def next_due(self) -> Decimal | None:
        """Return the time that the first of the waiting jobs waits for, as the index shows it; None: none waits."""
        for item in query_items(self.client, self._unfinished_query(WAITING) | {"Limit": 1}):
            return Decimal(item[self.tables.field("accepted_at")]["N"])
        return None

    def due(self, now: Decimal, limit: int) -> list[str]:
        """Return ids of jobs that have waited until now, at most `limit`, the first first, as the index shows them."""
        query = self._unfinished_query(WAITING)
        query["KeyConditionExpression"] += " AND #accepted_at <= :now"
        query["ExpressionAttributeNames"]["#accepted_at"] = self.tables.field("accepted_at")
        query["ExpressionAttributeValues"][":now"] = number(now)
        items = islice(query_items(self.client, query | {"Limit": limit}), limit)
        return [item[self.tables.field("job_id")]["S"] for item in items]

    def release(self, job_id: str, now: Decimal) -> JobRecord:
        """Let a job wait no more, and return its item. Idempotent.

        Raises:
            JobNotFound: No job of this id was accepted.
        """
        item = self._update(
            "release",
            job_id,
            "SET #unfinished = :scheduling, #accepted_at = #submitted_at, #sent_at = :now REMOVE #submitted_at",
            "#unfinished = :waiting",
            {":scheduling": {"S": SCHEDULING}, ":waiting": {"S": WAITING}, ":now": number(now)},
        )
        return self.record(job_id) if item is None else self._record(item)

    # ---- chunking: one Scheduler at a time

    def claim_chunking(
        self, job_id: str, owner: str, now: Decimal, lease_s: float, *, ended_before: Decimal | None
    ) -> JobRecord | None:
        """Make `owner` the one who chunks the job, and return its item with a generation of its own.

        None: somebody else may be at it, or the job is chunked already, or refused. Times are as with `claim_part`.
        """
        free, values = _free(ended_before)
        item = self._update(
            "claim job",
            job_id,
            "SET #owner = :owner, #lease_until = :until ADD #generation :one",
            f"#state = :accepted AND ({free})",
            {
                ":owner": {"S": owner},
                ":until": _until(now, lease_s),
                ":one": number(1),
                ":accepted": {"S": JobState.ACCEPTED.value},
                **values,
            },
        )
        return None if item is None else self._record(item)

    def renew_chunking(self, job_id: str, owner: str, now: Decimal, lease_s: float) -> None:
        """Give a sign of life of the one who chunks.

        Raises:
            TransitionRefused: Somebody else chunks it now, or has done so.
        """
        self._update_or_refuse(
            "renew",
            job_id,
            "SET #lease_until = :until",
            "#state = :accepted AND #owner = :owner",
            {
                ":until": _until(now, lease_s),
                ":owner": {"S": owner},
                ":accepted": {"S": JobState.ACCEPTED.value},
            },
        )

    def release_chunking(self, job_id: str, owner: str) -> None:
        """Leave the chunking to anybody; nothing happens unless `owner` has it."""
        self._update(
            "release job",
            job_id,
            "REMOVE #lease_until",
            "#state = :accepted AND #owner = :owner",
            {":owner": {"S": owner}, ":accepted": {"S": JobState.ACCEPTED.value}},
        )

    def refuse(self, claimed: JobRecord, error: str, warnings: Sequence[str] = ()) -> None:
        """End the job as not valid (accepted -> refused). Idempotent; its id is free for another submit.

        Parameters:
            claimed: What `claim_chunking` gave to whoever found that out.

        Raises:
            TransitionRefused: Somebody else chunks it now, or has done so.
        """
        self._put_warnings(claimed.job_id, warnings)
        self._update_or_refuse(
            "refuse",
            claimed.job_id,
            "SET #state = :refused, #error = :error, #warned = :warned REMOVE #unfinished, #lease_until, #owner",
            "#state IN (:accepted, :refused) AND #generation = :generation",
            {
                ":refused": {"S": JobState.REFUSED.value},
                ":accepted": {"S": JobState.ACCEPTED.value},
                ":generation": number(claimed.generation),
                ":error": {"S": error[:LONGEST_ERROR]},
                ":warned": number(len(warnings)),
            },
        )

    def begin_writing(
        self,
        claimed: JobRecord,
        owner: str,
        *,
        now: Decimal,
        tasks: int,
        rows_per_part: int,
        batch_rows: int,
        warnings: Sequence[str] = (),
    ) -> JobRecord:
        """Fix the job's parts (accepted -> writing) and return its item. Idempotent.

        From here on anybody may claim a part. The parts are stored before the state, so each can be found.

        Parameters:
            claimed: What `claim_chunking` gave to this owner.

        Raises:
            TransitionRefused: Somebody else chunks the job now, or has done so.
        """
        parts = list(spans(tasks, rows_per_part))
        for index, span in enumerate(parts):
            self._put_part(claimed, index, span, batch_rows)
        self._put_warnings(claimed.job_id, warnings)
        item = self._update(
            "begin writing",
            claimed.job_id,
            "SET #state = :writing, #tasks = :tasks, #parts = :parts, #parts_done = :zero,"
            " #rows_per_part = :rows_per_part, #warned = :warned, #sent_at = :now REMOVE #owner, #lease_until, #resent",
            "#state = :accepted AND #owner = :owner AND #generation = :generation",
            {
                ":writing": {"S": JobState.WRITING.value},
                ":accepted": {"S": JobState.ACCEPTED.value},
                ":owner": {"S": owner},
                ":generation": number(claimed.generation),
                ":tasks": number(tasks),
                ":parts": number(len(parts)),
                ":rows_per_part": number(rows_per_part),
                ":zero": number(0),
                ":now": number(now),
                ":warned": number(len(warnings)),
            },
        )
        now_there = self.record(claimed.job_id) if item is None else self._record(item)
        if now_there.generation != claimed.generation or now_there.state is JobState.ACCEPTED:
            raise TransitionRefused(claimed.job_id, "begin writing", f"generation {now_there.generation}")
        return now_there

    # ---- writing: one owner for each part

    def claim_part(
        self, record: JobRecord, part: int, owner: str, now: Decimal, lease_s: float, *, ended_before: Decimal | None
    ) -> Part | None:
        """Make a part of the job the owner's and return it.

        None: somebody else may hold it, or it is written, or this chunking of the job has no such part.

        Parameters:
            owner: A name that no other claim has.
            now: When the lease begins.
            ended_before: Whose lease ended earlier has lost the part; None: nobody has.
        """
        free, values = _free(ended_before)
        item = self._update(
            "claim part",
            _part_key(record.job_id, part),
            "SET #owner = :owner, #lease_until = :until ADD #claims :one",
            f"#generation = :generation AND attribute_not_exists(#done) AND ({free})",
            {
                ":owner": {"S": owner},
                ":until": _until(now, lease_s),
                ":one": number(1),
                ":generation": number(record.generation),
                **values,
            },
        )
        if item is None:
            return None
        return Part(
            job_id=record.job_id,
            number=part,
            owner=owner,
            **{name: _count(item, name) for name in ("first_row", "rows", "batch_rows", "written", "claims")},
        )

    def checkpoint(self, part: Part, written: int, now: Decimal, lease_s: float) -> Part:
        """Note that the first `written` rows of the part are in the table, renew its lease, and return it.

        Raises:
            TransitionRefused: Somebody else holds the part now; stop writing it.
        """
        self._update_or_refuse(
            "checkpoint",
            part.key,
            "SET #written = :written, #lease_until = :until",
            _OWNED,
            {":written": number(written), ":until": _until(now, lease_s), ":owner": {"S": part.owner}},
        )
        return replace(part, written=written)

    def renew_part(self, part: Part, now: Decimal, lease_s: float) -> None:
        """Give a sign of life of the part's owner.

        Raises:
            TransitionRefused: Somebody else holds the part now; stop writing it.
        """
        self._update_or_refuse(
            "renew",
            part.key,
            "SET #lease_until = :until",
            _OWNED,
            {":until": _until(now, lease_s), ":owner": {"S": part.owner}},
        )

    def release_part(self, part: Part) -> None:
        """Leave the part to anybody; nothing happens unless its owner has it."""
        self._update("release part", part.key, "REMOVE #owner, #lease_until", _OWNED, {":owner": {"S": part.owner}})

    def finish_part(self, part: Part) -> bool:
        """End the part as written and count it, in one transaction; return whether all rows of the job are written.

        Raises:
            TransitionRefused: Somebody else holds the part now.
        """
        done = self._request(
            part.key,
            "SET #done = :one, #written = #rows REMOVE #owner, #lease_until",
            _OWNED,
            {":one": number(1), ":owner": {"S": part.owner}},
        )
        counted = self._request(part.job_id, "ADD #parts_done :one", "attribute_exists(#state)", {":one": number(1)})
        try:
            transact(self.client, [{"Update": done}, {"Update": counted}], "finish part")  # type: ignore[typeddict-item]
        except TransactionRefused:
            raise TransitionRefused(part.key, "finish", "another owner") from None
        return self.finish_writing(part.job_id)

    def finish_writing(self, job_id: str) -> bool:
        """Note that all rows are written (writing -> scheduled), if they are; return whether they are. Idempotent."""
        item = self._update(
            "finish writing",
            job_id,
            "SET #state = :scheduled, #unfinished = :running REMOVE #resent",
            "#state = :writing AND #parts_done = #parts",
            {
                ":scheduled": {"S": JobState.SCHEDULED.value},
                ":writing": {"S": JobState.WRITING.value},
                ":running": {"S": RUNNING},
            },
        )
        return item is not None or not self.record(job_id).is_being_scheduled

    # ---- closing

    def counters_update(self, job_id: str, completed: int, dead: int, spawned: int = 0) -> Item:
        """Return the update that adds closed or spawned tasks to the job, for the transaction that writes them.

        It has no condition: a task is closed also when its job's item is gone.
        """
        added = {"completed": completed, "dead": dead} | ({"spawned": spawned} if spawned else {})
        update = "ADD " + ", ".join(f"#{name} :{name}" for name in added)
        return self._request(job_id, update, "", {f":{name}": number(count) for name, count in added.items()})

    def finish_if_done(self, job_id: str, now: Decimal) -> bool:
        """End the job (scheduled -> completed, or completed with dead) if all its tasks are closed.

        Returns whether it has ended, by this or before; False also where there is no such job, or none that can be
        read: its tasks are closed all the same. Idempotent.
        """
        try:
            record = self.record(job_id)
        except (JobNotFound, ItemCorrupt) as problem:
            logger.warning("task of a job that cannot be found: %s", problem, extra={"job_id": job_id})
            return False
        if record.state.is_ended:
            return True
        # More than all: a frozen Scheduler may, at the very worst, have put a closed task back.
        if record.state is not JobState.SCHEDULED or not record.all_closed:
            return False
        ended = JobState.COMPLETED_WITH_DEAD if record.dead else JobState.COMPLETED
        self._update(
            "finish job",
            job_id,
            "SET #state = :ended, #finished_at = :now REMOVE #unfinished",
            "#state = :scheduled",
            {
                ":ended": {"S": ended.value},
                ":scheduled": {"S": JobState.SCHEDULED.value},
                ":now": number(now),
            },
        )
        return True

    # ---- lost messages

    def note_resent(self, record: JobRecord, now: Decimal) -> bool:
        """Note that messages about a silent job are being sent again; False when somebody else did, or it moved on."""
        condition, values = _as_seen(record)
        values |= {":now": number(now), ":one": number(1)}
        item = self._update("resend", record.job_id, "SET #sent_at = :now ADD #resent :one", condition, values)
        return item is not None

    def note_held(self, record: JobRecord, heard_at: Decimal) -> None:
        """Note that a job is gone on with: its silence counts from that time. Nothing if it moved on meanwhile."""
        condition, values = _as_seen(record)
        self._update(
            "note held",
            record.job_id,
            "SET #sent_at = :from",
            condition,
            {**values, ":from": number(heard_at)},
        )

    # ---- inside

    def _put_unless_known(self, item: Item) -> tuple[bool, Item]:
        """Put a job's item unless one is there that was not refused; return whether, and the one that was there."""
        before: Item = {}
        while (there := self._put_in_place_of(before, item)) is not None:
            if there["state"]["S"] != JobState.REFUSED.value:
                return False, there
            before = there
        return True, before

    def _put_in_place_of(self, before: Item, item: Item) -> Item | None:
        """Put a job's item where there is none, or in the place of a refused one; return what is there instead.

        The new one counts its chunkings on from those of the refused one. So whatever these have left, or one that only
        stood still is about to leave, is of a generation that gives way: parts, files, a refusal.
        """
        condition = "attribute_not_exists(#state)"
        values: Item = {}
        if before:
            condition = "#state = :refused AND #submit = :submit"
            values = {"ExpressionAttributeValues": {":refused": before["state"], ":submit": before["submit"]}}
            item = item | {name: before[name] for name in ("generation",) if name in before}
        request: Item = {
            "TableName": self.tables.jobs,
            "Item": self._to_table(item),
            **self._condition(condition),
            **values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            patiently("accept", lambda: self.client.put_item(**request))
        except self.client.exceptions.ConditionalCheckFailedException as refusal:
            there: Item = self._from_table(refusal.response.get("Item", {}))  # type: ignore[arg-type]
            # It may have been we, and the answer was lost.
            return None if there.get("submit") == item["submit"] else there
        return None

    def _drop_body(self, job_id: str, item: Item) -> None:
        if "submit" not in item:
            return
        for index in range(int(item["pieces"]["N"])):
            key = self._key(_body_key(job_id, item["submit"]["S"], index))
            with translated("DeleteItem"):
                self.client.delete_item(TableName=self.tables.jobs, Key=key)

    def _put_part(self, claimed: JobRecord, index: int, span: Span, batch_rows: int) -> None:
        """Store a part of this chunking; parts of an older one give way, of a newer one stay."""
        item = {
            "job_id": {"S": _part_key(claimed.job_id, index)},
            "part": number(index),
            "generation": number(claimed.generation),
            "first_row": number(span.first_row),
            "rows": number(span.rows),
            "batch_rows": number(batch_rows),
            "written": number(0),
        }
        request = {
            "TableName": self.tables.jobs,
            "Item": self._to_table(item),
            **self._condition("attribute_not_exists(#part) OR #generation < :generation"),
            "ExpressionAttributeValues": {":generation": item["generation"]},
        }
        with translated("PutItem"):
            try:
                self.client.put_item(**request)
            except self.client.exceptions.ConditionalCheckFailedException:
                return  # put before, or by a newer chunking: the state's own condition decides

    def _put_warnings(self, job_id: str, warnings: Sequence[str]) -> None:
        if warnings:
            kept = [{"S": warning[:LONGEST_WARNING]} for warning in warnings[:MOST_WARNINGS]]
            self._put("warnings", {"job_id": {"S": f"{job_id}#warnings"}, "warnings": {"L": kept}})

    def _warnings(self, job_id: str) -> tuple[str, ...]:
        item = self._item(f"{job_id}#warnings")
        return tuple(warning["S"] for warning in item.get("warnings", {}).get("L", []))

    def _written(self, record: JobRecord) -> int:
        if record.state is JobState.WRITING:
            return sum(_count(item, "written") for item in self._part_items(record))
        return 0 if record.is_being_scheduled else (record.tasks or 0)

    def _part_items(self, record: JobRecord) -> list[Item]:
        items = self._items([_part_key(record.job_id, index) for index in range(record.parts)])
        return sorted(items, key=lambda item: int(item["part"]["N"]))

    def _items(self, keys: Sequence[str]) -> Iterator[Item]:
        return map(self._from_table, get_all(self.client, self.tables.jobs, [self._key(key) for key in keys]))

    def _unfinished_query(self, stage: str) -> Item:
        return {
            "TableName": self.tables.jobs,
            "IndexName": self.tables.unfinished_index,
            "KeyConditionExpression": "#unfinished = :stage",
            "ExpressionAttributeNames": {"#unfinished": self.tables.field("unfinished")},
            "ExpressionAttributeValues": {":stage": {"S": stage}},
        }

    def _unfinished(self, stage: str) -> Iterator[str]:
        items = query_items(self.client, self._unfinished_query(stage))
        return (item[self.tables.field("job_id")]["S"] for item in items)

    def _record(self, item: Item) -> JobRecord:
        try:
            return JobRecord(
                job_id=item["job_id"]["S"],
                labourer_id=item["labourer_id"]["S"],
                state=JobState(item["state"]["S"]),
                accepted_at=_time(item, "submitted_at") or Decimal(item["accepted_at"]["N"]),
                today=datetime.date.fromisoformat(item["today"]["S"]),
                tasks=_count(item, "tasks") if "tasks" in item else None,
                not_before=_time(item, "not_before"),
                is_waiting=item.get("unfinished", {}).get("S") == WAITING,
                lease_until=_time(item, "lease_until"),
                sent_at=_time(item, "sent_at") or Decimal(0),
                error=item.get("error", {}).get("S", ""),
                **{name: _count(item, name) for name in _COUNTS},
            )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ItemCorrupt("dynamodb", f"reading job {item.get('job_id')}: {error!r}") from error

    def _job_item(self, job_id: str) -> Item:
        item = self._item(job_id)
        if "state" not in item:
            raise JobNotFound(job_id)
        return item

    def _item(self, key: str) -> Item:
        with translated("GetItem"):
            answer = self.client.get_item(TableName=self.tables.jobs, Key=self._key(key), ConsistentRead=True)
        return self._from_table(answer.get("Item", {}))

    def _put(self, operation: str, item: Item) -> None:
        with translated(operation):
            self.client.put_item(TableName=self.tables.jobs, Item=self._to_table(item))

    def _update(self, operation: str, key: str, update: str, condition: str, values: Item) -> Item | None:
        """Update an item and return it as it is then; None when the condition failed."""
        request = self._request(key, update, condition, values)
        try:
            answer = patiently(operation, lambda: self.client.update_item(**request, ReturnValues="ALL_NEW"))
        except self.client.exceptions.ConditionalCheckFailedException:
            return None
        return self._from_table(answer["Attributes"])

    def _update_or_refuse(self, operation: str, key: str, update: str, condition: str, values: Item) -> None:
        if self._update(operation, key, update, condition, values) is None:
            raise TransitionRefused(key, operation, "another owner or state")

    def _request(self, key: str, update: str, condition: str, values: Item) -> Item:
        """Return an UpdateItem; `#name` in its texts stands for our field `name`, however the table calls it."""
        request: Item = {
            "TableName": self.tables.jobs,
            "Key": self._key(key),
            "UpdateExpression": update,
            "ExpressionAttributeNames": self._names(update, condition),
            "ExpressionAttributeValues": values,
        }
        return request | {"ConditionExpression": condition} if condition else request

    def _condition(self, condition: str) -> Item:
        return {"ConditionExpression": condition, "ExpressionAttributeNames": self._names(condition)}

    def _names(self, *expressions: str) -> dict[str, str]:
        used = re.findall(r"#(\w+)", " ".join(expressions))
        return {f"#{name}": self.tables.field(name) for name in used}

    def _key(self, key: str) -> Item:
        return {self.tables.field("job_id"): {"S": key}}

    def _to_table(self, item: Item) -> Item:
        return {self.tables.field(name): value for name, value in item.items()}

    def _from_table(self, item: Mapping[str, Any]) -> Item:
        ours = {theirs: name for name, theirs in self.tables.field_names.items()}
        return {ours.get(name, name): value for name, value in item.items()}


#: The condition under which an owner may write about its part.
_OWNED = "#owner = :owner AND attribute_not_exists(#done)"


def is_free(held_until: Decimal | None, ended_before: Decimal | None) -> bool:
    """Return whether anybody may have what is held until then; None is nobody's. As `_free` has DynamoDB decide it."""
    return held_until is None or (ended_before is not None and held_until < ended_before)


def _as_seen(record: JobRecord) -> tuple[str, Item]:
    """Return the condition that nobody has sent messages about a job again since it was read, and its values."""
    values: Item = {":state": {"S": record.state.value}}
    if not record.resent:
        return "attribute_not_exists(#resent) AND #state = :state", values
    return "#resent = :seen AND #state = :state", {**values, ":seen": number(record.resent)}


def _free(ended_before: Decimal | None) -> tuple[str, Item]:
    """Return the condition under which somebody (`:owner`) may have what a lease is for, and its values."""
    condition = "attribute_not_exists(#lease_until) OR #owner = :owner"
    if ended_before is None:
        return condition, {}
    return f"{condition} OR #lease_until < :before", {":before": number(ended_before)}


#: Numbers of a job's item that are 0 when they are not there.
_COUNTS = ("generation", "parts", "rows_per_part", "completed", "dead", "spawned", "resent", "warned")


def _part_key(job_id: str, part: int) -> str:
    return f"{job_id}#part#{part:05d}"


def _body_key(job_id: str, submit: str, index: int) -> str:
    return f"{job_id}#body#{submit}#{index}"


def _until(now: Decimal, lease_s: float) -> Item:
    return number(EXACT.quantize(EXACT.add(now, Decimal(repr(lease_s))), Decimal("0.001")))


def _count(item: Item, name: str) -> int:
    return int(item.get(name, {}).get("N", "0"))


def _time(item: Item, name: str) -> Decimal | None:
    return Decimal(item[name]["N"]) if name in item else None
