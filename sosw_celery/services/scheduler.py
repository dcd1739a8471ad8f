"""Turns jobs into rows of the tasks table: accepts them for good, chunks them into queue files, and writes these.

    submit    checks a job and stores it; from then on it cannot be lost
    run       goes on with a job, whatever is to be done next: chunk it, or write parts of it
    resume    has silent jobs gone on with, whose Scheduler or message was lost

A job is chunked by one Scheduler into parts; each part is written by whoever holds its lease. The class has the methods
and properties of sosw's class of this name, so that it can be subclassed as there: chunkers and periods that a subclass
overrides take effect.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sosw_celery import clock as system_clock
from sosw_celery.config.places import found_at
from sosw_celery.config.settings import Settings
from sosw_celery.core import chunking
from sosw_celery.core.exact import EXACT
from sosw_celery.core.jobs.payload import check_payload_size, payload_text
from sosw_celery.core.jobs.plan import Envelope, check_job_id, encode_row, file_name, file_names
from sosw_celery.core.tasks.history import Observer, nobody
from sosw_celery.core.tasks.model import JobState, JobSummary
from sosw_celery.core.tasks.siblings import next_depth
from sosw_celery.errors import (
    ConfigError,
    InvalidJob,
    ItemCorrupt,
    SiblingRefused,
    StoreError,
    TransitionRefused,
)
from sosw_celery.services.chunkers import Chunkers
from sosw_celery.services.lease_clock import LeaseClock
from sosw_celery.services.part_writer import Lease, PartWriter
from sosw_celery.services.ports import Clock, Messenger
from sosw_celery.stores.dynamodb.job_table import JobRecord, JobTable, Part, is_free
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.files.queue_files import QueueFiles, pop_rows, read_rows

__all__ = ["Scheduler", "scheduler_class"]

logger = logging.getLogger(__name__)

Payload = dict[str, Any]

#: Jobs whose time has come that one sweep begins with; the next one goes on.
DUE_AT_ONCE = 500

#: A silent job's messages are sent again after one lease, then after twice as long, up to 2 to this power of leases.
MOST_DOUBLINGS = 3


def _never() -> bool:
    return False


@dataclass
class _Work:
    """What one run is about; the service itself keeps nothing of a run, so that threads may share it.

    Parameters:
        deadline: When the run has to end, by the steady clock.
        depth: How many siblings came before this run in its line.
        job: The job itself, once it is needed.
        writer: Writes the part in hand.
        is_written: Whether all rows of the job are known to be in the table.
    """

    record: JobRecord
    directory: Path
    deadline: float
    should_stop: Callable[[], bool]
    depth: int = 0
    job: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    writer: PartWriter | None = None
    is_written: bool = False


class Scheduler(Chunkers):
    """Accepts jobs, chunks them and writes their tasks. Safe to share between threads and processes.

    Parameters:
        lease_clock: By which jobs and parts change hands; None: by `clock` alone.
        observe: Told of the tasks whose rows are in the table.
        warned: Told of each warning about a job that is chunked outside a run; None: it is logged.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        task_table: TaskTable,
        job_table: JobTable,
        queue_files: QueueFiles,
        messenger: Messenger,
        clock: Clock = system_clock.now,
        lease_clock: LeaseClock | None = None,
        steady: Callable[[], float] = system_clock.steady,
        observe: Observer = nobody,
        warned: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(settings, clock=clock)
        self._warned = warned
        self._observe = observe
        self._task_table = task_table
        self._lease_clock = lease_clock or LeaseClock(clock)
        self._job_table = job_table
        self._queue_files = queue_files
        self._messenger = messenger
        self._steady = steady
        self._work: _Work | None = None
        self._queue_file_name = ""

    # ---- the service

    def submit(self, event: Any, default_job_id: str, *, not_before: Decimal | None = None) -> tuple[str, bool]:
        """Store the job of an event for good; return its id, and whether it was not known before.

        Submitting the same `job_id` again changes nothing, unless that job was refused.

        Parameters:
            event: The job as a dict or JSON text, or `{"job": ...}` around one of them.
            default_job_id: The id of a job that has no `job_id` of its own.
            not_before: Nothing of the job starts before, and its periods count from then; None: it may start at once.

        Raises:
            InvalidJob: It cannot be a job. What is wrong deeper in it shows when it is chunked.
            StoreUnavailable: Whether it is accepted is not known; submit it again with the same `job_id`.
        """
        job = chunking.extract_job(event)
        labourer_id = job["lambda_name"]
        chunking.check_labourer(labourer_id, self.settings.labourers)
        self._levels(job)
        self.check_periods()
        own_id = job.get("job_id")
        job_id = check_job_id(default_job_id if own_id is None else own_id)
        now = self._clock()
        today = self._date_of(job, max(now, not_before or now))
        newly = self._job_table.accept(job_id, job, labourer_id, now, today, not_before=not_before)
        return job_id, newly

    def run(self, envelope: Envelope, *, should_stop: Callable[[], bool] = _never) -> JobSummary:
        """Go on with an accepted job as far as the time of one run allows, and return where it stands then.

        Does what is to be done: chunks the job, unless somebody is at it; writes the part of the envelope, then other
        parts that nobody holds. What is left when the time is short goes to a sibling. Any number of runs of one job
        may go on at once, and each may die at any moment. A job whose time has not come is left as it is.

        Parameters:
            should_stop: Asked between batches; when true the run ends early, as it does when its time is short.

        Raises:
            JobNotFound: No such job was accepted.
            InvalidJob: It cannot become tasks; it is refused, and nothing of it was written.
            StoreUnavailable: It goes on with the next run.
        """
        record = self._job_table.record(envelope.job_id)
        if record.is_waiting and self._has_come(record.not_before):
            record = self._job_table.release(record.job_id, self._clock())
        if record.is_being_scheduled and not record.is_waiting:
            with tempfile.TemporaryDirectory(prefix="sosw-scheduler-") as directory:
                self._at_work(record, Path(directory), should_stop, envelope.depth)._go_on(envelope.part)
        return self._job_table.get(envelope.job_id)

    def begin_due(self) -> int:
        """Send messages for jobs that waited for a time which has come, by any clock; return how many."""
        now = self._lease_clock.earliest()
        due = [] if now is None else self._job_table.due(now, DUE_AT_ONCE)
        for job_id in due:
            self._job_table.release(job_id, self._clock())
            self._send(Envelope(job_id))
        return len(due)

    def _has_come(self, time: Decimal | None) -> bool:
        now = self._lease_clock.earliest()
        return time is None or (now is not None and time <= now)

    def resume(self, record: JobRecord, now: Decimal) -> int:
        """Send messages for an unfinished job that nobody seems to go on with; return how many. Answers to lost ones.

        A job counts as silent when it was not chunked, or a part of it not held by anybody, one lease after the last
        messages about it were sent; each time they are sent again, the wait doubles up to eight leases. While all that
        is left of it is held it is not silent: it is looked at again when the first of these leases has ended.

        Parameters:
            now: By the clock that all nodes share.
        """
        envelopes = self._silent(record, now)
        for envelope in envelopes:
            self._send(envelope)
        return len(envelopes)

    # ---- the queue file

    def set_queue_file(self, name: str | None = None) -> None:
        """Choose the queue file that the methods below mean: that of the part in hand, unless it is named.

        Outside of a run it gets a name that no other has.
        """
        self._queue_file_name = self._file_name(self._part_in_hand) if name is None else name

    @property
    def remote_queue_file(self) -> str:
        """Where the queue file stands in the queue bucket while nobody works on it."""
        return f"{self.settings.s3_prefix.strip('/')}/{self._queue_file_name}"

    @property
    def remote_queue_locked_file(self) -> str:
        """Where it stands while somebody works on it; others should not touch it."""
        return f"{self.settings.s3_prefix.strip('/')}/locked_{self._queue_file_name}"

    def parse_job_to_file(self, job: Mapping[str, Any]) -> int:
        """Chunk a job into queue files, one for each part of it, and return the number of its tasks.

        Every task is looked at before the last file is stored, so what is wrong with one shows before any is written.

        Raises:
            InvalidJob: The job cannot become tasks, becomes none, or one of them is too big for DynamoDB; or its
                labourer is not configured.
        """
        chunking.check_is_job(job)
        name = job.get("lambda_name", job.get("labourer_id"))
        chunking.check_labourer(chunking.labourer_name_from(name), self.settings.labourers)
        lines = self._lines(job)
        tasks = 0
        for part, first in enumerate(lines):
            counted = _Counted(chain([first], islice(lines, self.settings.rows_per_file - 1)))
            self.set_queue_file(self._file_name(part))
            self._queue_files.put(self._queue_file_name, counted)
            tasks += counted.count
        if not tasks:
            raise InvalidJob("job", "expected a job that gives at least one task")
        return tasks

    def get_and_lock_queue_file(self) -> str:
        """Lock the queue file and return the path of a working copy; an empty text when there is no such file.

        Its rows are ours, because the lease on its part is: so a file that a dead owner left locked is taken from it.
        """
        path = self._queue_files.lock(self._queue_file_name, self._at_work_now.directory, steal=True)
        return "" if path is None else str(path)

    def process_file(self) -> None:
        """Write the rows of the part in hand, batch by batch; leave the rest to a sibling when the time is short.

        A queue file that is lost, or not what it should be, is made again from the job.
        """
        writer = self._writer
        path = self.get_and_lock_queue_file()
        rebuilt = False
        while not writer.is_complete and self.sufficient_execution_time_left:
            if writer.write(self.pop_rows_from_file(path, writer.part.batch_rows)):
                continue
            if rebuilt:
                raise ItemCorrupt("dynamodb", f"job {writer.part.job_id} gives other rows than when it was chunked")
            path = self._rebuild_queue_file()
            rebuilt = True
        self.upload_and_unlock_queue_file()

    @staticmethod
    def pop_rows_from_file(file_name: str, rows: int | None = 1) -> list[str]:
        """Take `rows` lines, or what is left, off the top of a local file; it goes when its last line does."""
        return pop_rows(Path(file_name), 1 if rows is None else rows) if file_name else []

    def upload_and_unlock_queue_file(self) -> None:
        """Give back what is left of the queue file and remove its locked twin; or the whole file when nothing is."""
        local = self._at_work_now.directory / self._queue_file_name
        if self._writer.is_complete or not local.exists():
            self._queue_files.delete(self._queue_file_name)
        else:
            self._queue_files.unlock(self._queue_file_name, read_rows(local))

    def spawn_sibling(self, payload: Mapping[str, Any] | None = None) -> None:
        """Have another Scheduler go on with the job of this run, from a part of it on.

        Parameters:
            payload: `{"part": NUMBER}`; without it the part in hand.

        Raises:
            SiblingRefused: `max_sibling_depth` Schedulers came before this one in its line. The job is not lost: once
                nobody has gone on with it for a lease, a sweep begins a new line.
        """
        work = self._at_work_now
        part = (payload or {}).get("part", self._part_in_hand)
        depth = next_depth(f"job {work.record.job_id}", work.depth, self.settings.max_sibling_depth)
        self._send(Envelope(work.record.job_id, part, depth))

    @property
    def sufficient_execution_time_left(self) -> bool:
        """Whether there is time for another batch: more than `shutdown_period` seconds, and nobody asks to stop."""
        if self._work is None:
            return True
        # A shutdown period as long as the run would leave no time for a single batch, for ever.
        reserve_s = min(self.settings.shutdown_period, self.settings.scheduler_max_run / 2)
        return not self._work.should_stop() and self._steady() < self._work.deadline - reserve_s

    def get_db_field_name(self, key: str) -> str:
        """Return how our field `key` is called in the tables."""
        return self._task_table.tables.field(key)

    # ---- one run

    def _at_work(self, record: JobRecord, directory: Path, should_stop: Callable[[], bool], depth: int) -> Scheduler:
        """Return a copy of this service that holds the state of one run."""
        working = copy.copy(self)
        deadline = self._steady() + self.settings.scheduler_max_run
        working._work = _Work(record, directory, deadline, should_stop, depth)
        return working

    @property
    def _at_work_now(self) -> _Work:
        if self._work is None:
            raise RuntimeError("queue files are worked on by a run: call run() with the envelope of an accepted job")
        return self._work

    @property
    def _writer(self) -> PartWriter:
        writer = self._at_work_now.writer
        if writer is None:
            raise RuntimeError("no part of the job is claimed")
        return writer

    @property
    def _part_in_hand(self) -> int:
        return self._work.writer.part.number if self._work and self._work.writer else 0

    def _go_on(self, wanted: int | None) -> None:
        work = self._at_work_now
        if work.record.state is JobState.ACCEPTED:
            if not self._chunk():
                return
            wanted = 0
        taken = self._claim(wanted)
        while taken is not None:
            if not self._write_part(*taken):
                return
            go_on = not work.is_written and self.sufficient_execution_time_left
            taken = self._claim(None) if go_on else None
        # The one who wrote the last part may have died before it could say so.
        if work.is_written or self._job_table.finish_writing(work.record.job_id):
            self._tidy_up()

    def _chunk(self) -> bool:
        """Chunk the job and fix its parts, unless somebody else is at it; return whether there are parts to write."""
        work = self._at_work_now
        job_id = work.record.job_id
        taken_at, owner = self._steady(), uuid.uuid4().hex
        claimed = self._job_table.claim_chunking(
            job_id, owner, self._lease_clock.latest(), self.settings.part_lease_s, ended_before=self._ended_before()
        )
        if claimed is None:
            work.record = self._job_table.record(job_id)
            return work.record.state is JobState.WRITING
        work.record = claimed
        renew = partial(self._renew_chunking, job_id, owner)
        with self._lease(renew, taken_at, job_id) as lease:
            try:
                work.job = self._job_table.body(job_id)
                tasks = self.parse_job_to_file(work.job)
                lease.check()
                work.record = self._job_table.begin_writing(
                    claimed,
                    owner,
                    now=self._clock(),
                    tasks=tasks,
                    rows_per_part=self.settings.rows_per_file,
                    batch_rows=self.settings.rows_to_process,
                    warnings=work.warnings,
                )
            except InvalidJob as problem:
                if self._refuse(claimed, problem):
                    raise
                return False
            except TransitionRefused as refusal:
                self._give_up_chunking(job_id, refusal)
                return False
            except BaseException:
                self._quietly(lambda: self._job_table.release_chunking(job_id, owner))
                raise
        for part in range(1, work.record.parts):
            self._send(Envelope(job_id, part))
        return True

    def _refuse(self, claimed: JobRecord, problem: InvalidJob) -> bool:
        """End the job as refused, unless somebody else chunks it by now; return whether."""
        try:
            self._job_table.refuse(claimed, str(problem), self._at_work_now.warnings)
        except TransitionRefused as refusal:
            self._give_up_chunking(claimed.job_id, refusal)
            return False
        logger.error("job refused: %r", problem, extra={"job_id": claimed.job_id})
        beginning = file_names(self.settings.queue_file, claimed.job_id, claimed.generation)
        self._quietly(lambda: self._queue_files.clear(beginning))
        return True

    def _give_up_chunking(self, job_id: str, refusal: TransitionRefused) -> None:
        """Say that we were too slow, and somebody else chunks the job."""
        logger.info("chunking given up: %s", refusal, extra={"job_id": job_id})

    def _ended_before(self) -> Decimal | None:
        """Return the time before which a lease has to have ended for whoever wants to go on in its owner's place.

        What the owner had on its way then has arrived, or never will.
        """
        earliest = self._lease_clock.earliest()
        margin_s = Decimal(repr(self.settings.part_margin_s))
        return None if earliest is None else EXACT.subtract(earliest, margin_s)

    def _renew_chunking(self, job_id: str, owner: str) -> None:
        self._job_table.renew_chunking(job_id, owner, self._lease_clock.latest(), self.settings.part_lease_s)

    def _claim(self, wanted: int | None) -> tuple[Part, float] | None:
        """Claim the wanted part, else the next one that nobody holds; return it with the time when it was asked for."""
        work = self._at_work_now
        if wanted is not None and (taken := self._claim_part(wanted)) is not None:
            return taken
        free = self._job_table.open_parts(work.record.job_id, ended_before=self._ended_before())
        # From the part in hand on, so that siblings who began at different parts do not all want the same next one.
        here = self._part_in_hand if wanted is None else wanted
        for number in sorted(free, key=lambda number: (number < here, number)):
            if (taken := self._claim_part(number)) is not None:
                return taken
        return None

    def _claim_part(self, number: int) -> tuple[Part, float] | None:
        work = self._at_work_now
        asked_at = self._steady()
        part = self._job_table.claim_part(
            work.record,
            number,
            uuid.uuid4().hex,
            self._lease_clock.latest(),
            self.settings.part_lease_s,
            ended_before=self._ended_before(),
        )
        return None if part is None else (part, asked_at)

    def _write_part(self, part: Part, taken_at: float) -> bool:
        """Write a claimed part; return whether this run may go on with another one."""
        work = self._at_work_now
        lease = self._lease(partial(self._renew_part, part), taken_at, part.key)
        try:
            with lease, self._new_writer(part, lease) as work.writer:
                self.set_queue_file()
                self.process_file()
                if self._writer.is_complete:
                    work.is_written = self._job_table.finish_part(self._writer.part)
                    return True
            self._job_table.release_part(part)
        except TransitionRefused as refusal:  # we were too slow; whoever has it now goes on behind our checkpoint
            logger.info("part given up: %s", refusal, extra={"job_id": part.job_id, "part": part.number})
            return True
        except BaseException:  # its writer has ended, so none of its requests is on its way
            self._quietly(lambda: self._job_table.release_part(part))
            raise
        try:
            self.spawn_sibling({"part": part.number})
        except SiblingRefused as refused:  # the next sweep goes on with the part
            logger.error("part left to the sweep: %s", refused, extra={"job_id": part.job_id, "part": part.number})
        return False

    def _lease(self, renew: Callable[[], object], taken_at: float, name: str) -> Lease:
        lease_s, margin_s = self.settings.part_lease_s, self.settings.part_margin_s
        return Lease(renew, lease_s=lease_s, margin_s=margin_s, taken_at=taken_at, steady=self._steady, name=name)

    def _renew_part(self, part: Part) -> None:
        self._job_table.renew_part(part, self._lease_clock.latest(), self.settings.part_lease_s)

    def _new_writer(self, part: Part, lease: Lease) -> PartWriter:
        labourer_id = self._at_work_now.record.labourer_id
        labourer = self.settings.labourers.get(labourer_id)
        return PartWriter(
            part,
            lease,
            labourer_id=labourer_id,
            arn=labourer.arn if labourer else "",
            task_table=self._task_table,
            job_table=self._job_table,
            messenger=self._messenger,
            clock=self._clock,
            lease_clock=self._lease_clock,
            steady=self._steady,
            lease_s=self.settings.part_lease_s,
            observe=self._observe,
        )

    def _rebuild_queue_file(self) -> str:
        """Make the queue file of the part in hand again, from the checkpoint on, and lock it."""
        part = self._writer.part
        logger.warning("queue file lost, the job is chunked again", extra={"job_id": part.job_id, "part": part.number})
        self._at_work_now.job = self._job_table.body(part.job_id)
        lines = self._lines(self._at_work_now.job)
        self._queue_files.put(self._queue_file_name, islice(lines, part.next_row, part.end_row))
        return self.get_and_lock_queue_file()

    def _tidy_up(self) -> None:
        """Do what is left when all rows are written: the tasks may be closed already, killed processes leave files."""
        record = self._at_work_now.record
        self._job_table.finish_if_done(record.job_id, self._clock())
        for generation in range(1, record.generation + 1):
            beginning = file_names(self.settings.queue_file, record.job_id, generation)
            self._quietly(partial(self._queue_files.clear, beginning))

    # ---- resuming

    def _silent(self, record: JobRecord, now: Decimal) -> Sequence[Envelope]:
        """Return the messages to send again about a job; none when it is not silent, or somebody else sends them."""
        if not record.is_being_scheduled:
            return []
        lease_s, margin_s = Decimal(repr(self.settings.part_lease_s)), Decimal(repr(self.settings.part_margin_s))
        if record.sent_at > EXACT.add(now, EXACT.add(lease_s, margin_s)):
            # By a clock that is ahead of the one that all share: nobody would look for so long.
            self._job_table.note_held(record, now)
            return []
        heard_at = max(record.sent_at, record.lease_until or Decimal(0))
        wait_s = EXACT.multiply(lease_s, 2 ** min(record.resent, MOST_DOUBLINGS))
        if now < EXACT.add(heard_at, wait_s):
            return []
        held = {} if record.state is JobState.ACCEPTED else self._job_table.unwritten_parts(record)
        ended_before = self._ended_before()
        parts = [part for part, until in held.items() if is_free(until, ended_before)]
        if held and not parts:
            # A message would find nothing to do, and a part whose owner has just died would wait for the doubled time.
            ends = min(until for until in held.values() if until is not None)
            free_from = EXACT.add(ends, margin_s)
            self._job_table.note_held(record, EXACT.subtract(free_from, wait_s))
            return []
        if not self._job_table.note_resent(record, now):
            return []
        # None is left when the last owner died before it could end the writing.
        return [Envelope(record.job_id, part) for part in parts] or [Envelope(record.job_id)]

    def _send(self, envelope: Envelope) -> None:
        try:
            self._messenger.spawn_scheduler(envelope.as_message())
        except Exception:
            # The job item says what is to be done, so the next sweep sends it again.
            logger.exception("message not sent", extra={"job_id": envelope.job_id, "part": envelope.part})

    @staticmethod
    def _quietly(call: Callable[[], object]) -> None:
        """Do what only saves somebody else time; failing at it must not hide what happened before."""
        try:
            call()
        except StoreError as problem:
            logger.warning("not tidied up: %s", problem)

    # ---- what the methods of sosw's class stand on

    def _lines(self, job: Mapping[str, Any]) -> Iterator[str]:
        """Yield the lines of a job's queue files, each task checked."""
        for row, payload in enumerate(self.payloads(job)):
            text = payload_text(payload)
            check_payload_size(text)
            yield encode_row(row, text)

    def _file_name(self, part: int) -> str:
        if self._work is None:
            return file_name(self.settings.queue_file, uuid.uuid4().hex, 0, part)
        record = self._work.record
        return file_name(self.settings.queue_file, record.job_id, record.generation, part)

    def _warn(self, warning: str) -> None:
        (self._warned or super()._warn)(warning)
        if self._work is not None and warning not in self._work.warnings:
            self._work.warnings.append(warning)

    def _levels(self, job: Mapping[str, Any]) -> Sequence[Any]:
        # A chunker of one's own may pass a node of the job, which does not name the job's schema.
        return super()._levels(job if self._work is None or "job_schema_name" in job else self._work.job)

    def _day(self, job: Mapping[str, Any]) -> date:
        return super()._day(job) if self._work is None else self._work.record.today


def scheduler_class(settings: Settings) -> type[Scheduler]:
    """Return the subclass of `Scheduler` that the settings name, its module imported; `Scheduler` itself if none.

    Raises:
        ConfigError: There is no such class.
    """
    place = settings.scheduler_class
    if place is None:
        return Scheduler
    key, expected = "sosw.scheduler_class", "a subclass of sosw_celery.Scheduler, as my_module:OurScheduler"
    found = found_at(key, place, expected)
    if not (isinstance(found, type) and issubclass(found, Scheduler)):
        raise ConfigError(key, place, expected)
    return found


class _Counted:
    """An iterator that knows how many it has given out."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.count += 1
            yield line
