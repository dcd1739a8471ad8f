"""The shape of a job on its way into the table: its messages, parts, task ids, queue files and their lines. Pure.

Everything here depends on the job alone, never on who writes it or when: so any Scheduler can go on where another one
stopped, and both mean the same rows.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

from sosw_celery.core.jobs.payload import MAX_PAYLOAD_BYTES
from sosw_celery.errors import InvalidJob
from sosw_celery.text import excerpt, kind_of

__all__ = [
    "Envelope",
    "Span",
    "check_job_id",
    "decode_row",
    "encode_row",
    "file_name",
    "file_names",
    "spans",
    "task_id",
]

#: Names the task ids of this system among all UUIDs. Changing it would make every task of an open job a new one.
TASK_NAMESPACE = uuid.UUID("6d1f2a38-5f0e-5c9b-9a55-0c2b8f7a4e11")

#: DynamoDB's limit for a key is 2048 bytes; this leaves room for what we put behind the id, and for people's eyes.
LONGEST_JOB_ID = 512

#: Keys of which a job that is submitted has one.
_OF_JOBS = {"lambda_name", "labourer_id", "job"}

#: No job has more parts, and no line of Schedulers is longer.
LARGEST_COUNT = 10**12

#: A job id that is a good part of a file name as it is: the same on file systems that fold case, and never special.
PLAIN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


class Envelope(NamedTuple):
    """The message "go on with this job", from one Scheduler to another.

    Nobody can mistake a job for one: it has the key `sosw`, and a job names its labourer or is wrapped in `job`.

    Parameters:
        part: The part to begin with; None lets the one who gets it see what is to be done.
        depth: How many Schedulers came before in its line, each of which ran out of time and spawned the next one.
    """

    job_id: str
    part: int | None = None
    depth: int = 0

    def as_message(self) -> dict[str, Any]:
        """Return the envelope as the one argument of the Celery task `scheduler`."""
        depth = {"depth": self.depth} if self.depth else {}
        return {"sosw": {"job_id": self.job_id, "part": self.part, **depth}}

    @staticmethod
    def from_message(message: object) -> Envelope | None:
        """Return the envelope that a message is, None when it is something else: a job, then.

        Keys that it does not know are a newer version's, and passed over.
        """
        if not isinstance(message, Mapping) or message.keys() & _OF_JOBS:
            return None
        inner = message.get("sosw")
        if not isinstance(inner, Mapping):
            return None
        job_id, part, depth = inner.get("job_id"), inner.get("part"), inner.get("depth", 0)
        if not _is_job_id(job_id) or not (part is None or _is_count(part)) or not _is_count(depth):
            return None
        return Envelope(job_id, part, depth)


class Span(NamedTuple):
    """The rows of one part: `rows` of them from number `first_row` on."""

    first_row: int
    rows: int


def check_job_id(job_id: object) -> str:
    """Return the job id, which is fit to be a key.

    Raises:
        InvalidJob: It is not text, empty, longer than 512 bytes, or holds a `#` or a character that cannot be stored.
    """
    if not isinstance(job_id, str) or not job_id:
        raise InvalidJob("job.job_id", "expected a text that is not empty", excerpt(job_id))
    if "#" in job_id:
        raise InvalidJob("job.job_id", "expected a text without '#'", excerpt(job_id))
    try:
        length = len(job_id.encode())
    except UnicodeEncodeError:
        raise InvalidJob("job.job_id", "expected a text that can be written as UTF-8", excerpt(job_id)) from None
    if length > LONGEST_JOB_ID:
        raise InvalidJob("job.job_id", f"expected at most {LONGEST_JOB_ID} bytes, got {length}", excerpt(job_id))
    return job_id


def _is_job_id(value: object) -> TypeGuard[str]:
    try:
        check_job_id(value)
    except InvalidJob:
        return False
    return True


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def task_id(job_id: str, row: int) -> str:
    """Return the id of the task in a row of a job: the same whoever writes it, however often."""
    return str(uuid.uuid5(TASK_NAMESPACE, f"{job_id}/{row}"))


def encode_row(row: int, payload: str) -> str:
    """Return the line of a queue file that holds a row: its number, a tab, the payload as JSON text."""
    return f"{row}\t{payload}"


def decode_row(line: str) -> tuple[int, str]:
    """Return number and payload of a line.

    Raises:
        ValueError: The line is none that `encode_row` made of the JSON text of an object.
    """
    number, tab, payload = line.rstrip("\n").partition("\t")
    if not tab or not line.isascii() or not number.isdecimal() or not _is_payload(payload):
        raise ValueError(f"not a row of a queue file: {kind_of(line)}")
    return int(number), payload


def _is_payload(text: str) -> bool:
    """Whether a text is one that `payload_text` may have made, and a row can hold."""
    if not text.startswith("{") or len(text) > MAX_PAYLOAD_BYTES:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def spans(tasks: int, rows_per_part: int) -> Iterator[Span]:
    """Yield the parts of a job: all of `rows_per_part` rows, the last one of what is left."""
    for first_row in range(0, tasks, rows_per_part):
        yield Span(first_row, min(rows_per_part, tasks - first_row))


def file_names(queue_file: str, job_id: str, generation: int) -> str:
    """Return how the names of all queue files begin that one chunking of a job makes, and those of no other."""
    stem = _stem_and_suffix(queue_file)[0]
    return f"{stem}_{_id_in_name(job_id)}.{generation}_"


def file_name(queue_file: str, job_id: str, generation: int, part: int) -> str:
    """Return the name of the queue file of a part: `tasks_queue_JOB.1_00000.txt`.

    It has no slash and is no longer than file systems allow, whatever the job id is. Different ids have names that
    differ also where upper and lower case are one.

    Parameters:
        queue_file: The configured name, as `tasks_queue.txt`.
        generation: Which chunking of the job made it: a repeated one must not be mixed up with what it repeats.
    """
    return f"{file_names(queue_file, job_id, generation)}{part:05d}{_stem_and_suffix(queue_file)[1]}"


def _stem_and_suffix(queue_file: str) -> tuple[str, str]:
    name = queue_file.replace("/", "_")
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def _id_in_name(job_id: str) -> str:
    if PLAIN_ID.fullmatch(job_id):
        return job_id
    # The dot keeps it apart from every plain id; the start of the id is there for people only.
    readable = re.sub(r"[^a-z0-9-]", "-", job_id.lower())[:40]
    return f"{readable}.{hashlib.sha256(job_id.encode()).hexdigest()[:32]}"
