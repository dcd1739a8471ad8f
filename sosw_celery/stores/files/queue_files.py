"""Queue files: the rows of a job that are not in DynamoDB yet, in an S3 bucket or in a directory.

A file stands under its name while nobody works on it, and as its twin `locked_NAME` beside it while somebody does.
Whoever makes the twin has the lock; it is made exclusively, so two never get it both. The twin stays whole until the
rest of its rows is given back (`unlock`) or none is left (`delete`): what its owner pops is popped from a working copy,
so an owner that dies loses no row. When both stand there, somebody died between two steps, and the unlocked one is the
one to go by: it is as new or newer.

    s3_prefix/tasks_queue_JOB.1_00000.txt             waits
    s3_prefix/locked_tasks_queue_JOB.1_00000.txt      is worked on

`queue_bucket: "file:///a/directory"` keeps them in a directory, best one that all Schedulers share; any other text is
the name of a bucket. In S3 the lock is a conditional put (`If-None-Match: *`); an imitation of S3 that ignores
conditions is still safe, since the lease on the part in DynamoDB decides who writes. One file holds up to 5 GB.

Source: sosw's Scheduler, which copies and deletes without a condition and loses the popped rows of a dead owner.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError

from sosw_celery.config.settings import Settings
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.aws_errors import error_code, translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

__all__ = ["DirectoryQueueFiles", "QueueFiles", "S3QueueFiles", "pop_rows", "queue_files_from", "read_rows"]

LOCKED = "locked_"

#: Codes of S3 that say "not now".
S3_PASSING_CODES = frozenset(
    {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "ThrottlingException", "500", "502", "503"}
)
#: A conditional put that came second; the other one while both are under way.
S3_LOST_RACE_CODES = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
S3_MISSING_CODES = frozenset({"NoSuchKey", "404", "NotFound"})

#: What a full or flaky disk says; it may work later.
DISK_PASSING_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE})


class QueueFiles(Protocol):
    """Where queue files stand. Names have no folder in them: every file is directly under the prefix.

    All methods raise StoreUnavailable when the place did not answer (repeating them does no harm), StoreError when it
    refused, and ValueError for a name that could lead out of the prefix.
    """

    def put(self, name: str, lines: Iterable[str]) -> None:
        """Store a file, unlocked, whole or not at all; it replaces one of the same name.

        The lines are taken one by one and may be any number; they have no line ends. An error of theirs comes through,
        and then nothing is stored.
        """

    def lock(self, name: str, directory: Path, *, steal: bool = False) -> Path | None:
        """Lock a file and return a working copy of it in the local `directory`.

        None: there is no such file, or somebody else has it locked.

        Parameters:
            steal: Take it from its owner too. Only for who knows that the owner is gone: holds the part's lease.
        """

    def unlock(self, name: str, lines: Iterable[str]) -> None:
        """Store the rest of a locked file, unlocked, and remove the locked twin, in this order."""

    def delete(self, name: str) -> None:
        """Remove a file, locked or not; it may be gone already."""

    def clear(self, beginning: str) -> int:
        """Remove all files, locked or not, whose names begin so; return how many."""


def queue_files_from(settings: Settings, s3: Callable[[], S3Client]) -> QueueFiles:
    """Return the place that `queue_bucket` names. `s3` makes the client; it is called only when that is a bucket."""
    url = urlsplit(settings.queue_bucket)
    if url.scheme == "file":
        return DirectoryQueueFiles(Path(unquote(url.path)) / settings.s3_prefix.strip("/"))
    return S3QueueFiles(s3(), settings.queue_bucket, settings.s3_prefix)


class DirectoryQueueFiles:
    """Queue files in a directory of this machine or of a shared file system. It is made when first needed.

    A file is on the disk when its method returns, and appears under its name in one step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, lines: Iterable[str]) -> None:
        """See QueueFiles."""
        free = self._free(name)
        with _disk("put"):
            self.path.mkdir(parents=True, exist_ok=True)
            # A leading dot: people who look for queue files pass half-written ones by. With the name, so that `clear`
            # finds the one that a killed process left.
            handle, temporary = tempfile.mkstemp(prefix=f".{name}-", suffix=".part", dir=self.path)
        try:
            with os.fdopen(handle, "wb") as file:
                _write(file, lines, _disk("put"))
                with _disk("put"):
                    file.flush()
                    os.fsync(file.fileno())
            with _disk("put"):
                os.replace(temporary, free)
                self._sync()
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def lock(self, name: str, directory: Path, *, steal: bool = False) -> Path | None:
        """See QueueFiles."""
        free, locked = self._free(name), self._locked(name)
        with _disk("lock"):
            if not free.exists() and not (steal and locked.exists()):
                return None
            try:
                os.close(os.open(locked, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                if not steal:
                    return None
            try:
                os.replace(free, locked)
            except FileNotFoundError:
                if not steal:  # its owner was done with it in this moment; take back the empty twin
                    locked.unlink(missing_ok=True)
                    return None
            self._sync()
            copy = directory / name
            shutil.copyfile(locked, copy)
            return copy

    def unlock(self, name: str, lines: Iterable[str]) -> None:
        """See QueueFiles."""
        self.put(name, lines)
        with _disk("unlock"):
            self._locked(name).unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """See QueueFiles."""
        with _disk("delete"):
            self._free(name).unlink(missing_ok=True)
            self._locked(name).unlink(missing_ok=True)

    def clear(self, beginning: str) -> int:
        """See QueueFiles."""
        _checked(beginning)
        removed = 0
        with _disk("clear"):
            if not self.path.is_dir():
                return 0
            for entry in os.scandir(self.path):
                if entry.name.startswith((beginning, LOCKED + beginning, f".{beginning}")):
                    Path(entry.path).unlink(missing_ok=True)
                    removed += 1
        return removed

    def _free(self, name: str) -> Path:
        return self.path / _checked(name)

    def _locked(self, name: str) -> Path:
        return self.path / (LOCKED + _checked(name))

    def _sync(self) -> None:
        """Make the names durable, not only the content: on POSIX a rename is on the disk when its directory is."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class S3QueueFiles:
    """Queue files in a bucket of S3, all under one prefix."""

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def put(self, name: str, lines: Iterable[str]) -> None:
        """See QueueFiles."""
        key = self._free(name)
        with tempfile.TemporaryFile() as file:
            _write(file, lines, _disk("put"))
            with _s3("put"):
                file.seek(0)
                self.client.put_object(Bucket=self.bucket, Key=key, Body=file)

    def lock(self, name: str, directory: Path, *, steal: bool = False) -> Path | None:
        """See QueueFiles."""
        copy = directory / name
        if self._download(self._free(name), copy):
            if not self._make_twin(name, copy, steal=steal):
                copy.unlink()
                return None
            self._remove(self._free(name), "lock")
            return copy
        return copy if steal and self._download(self._locked(name), copy) else None

    def unlock(self, name: str, lines: Iterable[str]) -> None:
        """See QueueFiles."""
        self.put(name, lines)
        self._remove(self._locked(name), "unlock")

    def delete(self, name: str) -> None:
        """See QueueFiles."""
        self._remove(self._free(name), "delete")
        self._remove(self._locked(name), "delete")

    def clear(self, beginning: str) -> int:
        """See QueueFiles."""
        _checked(beginning)
        removed = 0
        for start in (beginning, LOCKED + beginning):
            with _s3("clear"):
                pages = self.client.get_paginator("list_objects_v2").paginate(
                    Bucket=self.bucket, Prefix=self.prefix + start
                )
                for key in [item["Key"] for page in pages for item in page.get("Contents", [])]:
                    self.client.delete_object(Bucket=self.bucket, Key=key)
                    removed += 1
        return removed

    def _free(self, name: str) -> str:
        return self.prefix + _checked(name)

    def _locked(self, name: str) -> str:
        return self.prefix + LOCKED + _checked(name)

    def _download(self, key: str, path: Path) -> bool:
        """Copy an object to a local file; False when there is none."""
        with _s3("get"):
            try:
                body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
            except ClientError as error:
                if error_code(error) in S3_MISSING_CODES:
                    return False
                raise
            with path.open("wb") as file:
                for chunk in body.iter_chunks(1 << 20):
                    file.write(chunk)
        return True

    def _make_twin(self, name: str, copy: Path, *, steal: bool) -> bool:
        """Store the locked twin; False when there is one already and it must not be replaced."""
        with _s3("lock"), copy.open("rb") as body:
            if steal:
                self.client.put_object(Bucket=self.bucket, Key=self._locked(name), Body=body)
                return True
            try:
                self.client.put_object(Bucket=self.bucket, Key=self._locked(name), Body=body, IfNoneMatch="*")
            except ClientError as error:
                if error_code(error) in S3_LOST_RACE_CODES:
                    return False
                raise
        return True

    def _remove(self, key: str, operation: str) -> None:
        with _s3(operation):
            self.client.delete_object(Bucket=self.bucket, Key=key)


def pop_rows(path: Path, rows: int) -> list[str]:
    """Take `rows` lines, or what is left, off the top of a local file and return them without their line ends.

    The file goes when its last line does; none at all gives an empty list. A pop writes as much as it takes, whatever
    the length of the file: the place of a taken line is blanked with NUL bytes, and the first line that is left is
    found by halving, since no line holds a NUL. `read_rows` reads such a file.
    """
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return []
    with file:
        start = _first_row_at(file)
        taken = list(_lines(file, start, rows))
        end = file.tell()
        left = bool(file.read(1))
        if left:
            file.seek(start)
            file.write(b"\0" * (end - start))
    if not left:
        path.unlink()
    return taken


def read_rows(path: Path) -> Iterator[str]:
    """Yield the lines that a local file still holds, without their line ends; the file stays as it is."""
    if not path.exists():
        return
    with path.open("rb") as file:
        yield from _lines(file, _first_row_at(file), None)


def _lines(file: IO[bytes], start: int, count: int | None) -> Iterator[str]:
    file.seek(start)
    while count is None or count > 0:
        line = file.readline()
        if not line:
            return
        # What is no text is no row either: whoever reads the line sees that, and the file is made again.
        yield line.decode("utf-8", "replace").rstrip("\n")
        count = None if count is None else count - 1


def _first_row_at(file: IO[bytes]) -> int:
    """Return where the blanked top of a file ends: everything before is NUL, nothing behind."""
    low, high = 0, file.seek(0, os.SEEK_END)
    while low < high:
        middle = (low + high) // 2
        file.seek(middle)
        if file.read(1) == b"\0":
            low = middle + 1
        else:
            high = middle
    return low


def _write(file: IO[bytes], lines: Iterable[str], guard: contextlib.AbstractContextManager[None]) -> None:
    """Write lines; errors of the disk are translated, those of the lines come through as they are."""
    for line in lines:
        encoded = (line + "\n").encode()
        with guard:
            file.write(encoded)


def _checked(name: str) -> str:
    if not name or name in (".", "..") or any(character in name for character in "/\\\0"):
        raise ValueError(f"not the name of a queue file: {name!r}")
    return name


class _DiskErrors(contextlib.AbstractContextManager[None]):
    """Turns errors of the file system into ours. Reusable, since it is entered for each line."""

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            kind_of_ours = StoreUnavailable if error.errno in DISK_PASSING_ERRORS else StoreError
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            raise kind_of_ours("directory", self.operation, name) from error


def _disk(operation: str) -> _DiskErrors:
    return _DiskErrors(operation)


@contextlib.contextmanager
def _s3(operation: str) -> Iterator[None]:
    """Turn botocore's errors, and those of the local copies, into ours."""
    with _disk(operation), translated("s3", operation, retryable=S3_PASSING_CODES):
        yield
