"""One suite for queue files, wherever they stand: a directory, and a bucket of S3 (moto)."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from sosw_celery.config.settings import load_settings
from sosw_celery.core.jobs.plan import file_name
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.stores.files.queue_files import (
    DirectoryQueueFiles,
    QueueFiles,
    S3QueueFiles,
    pop_rows,
    queue_files_from,
    read_rows,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "queue-bucket"
NAME = "tasks_queue_j1.1_00000.txt"
ROWS = ['0\t{"a": 1}', '1\t{"a": "ü"}', '2\t{"a": []}']


@dataclass
class Place:
    """Queue files and the names that stand there, seen from outside."""

    files: QueueFiles
    names: Callable[[], list[str]]
    read: Callable[[str], str]


def _directory(tmp_path: Path) -> Place:
    root = tmp_path / "queue" / "sosw" / "scheduler"
    return Place(
        DirectoryQueueFiles(root),
        lambda: sorted(os.listdir(root)) if root.exists() else [],
        lambda name: (root / name).read_text("utf-8"),
    )


def _bucket(client: S3Client) -> Place:
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    prefix = "sosw/scheduler/"

    def names() -> list[str]:
        found = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        assert all(item["Key"].startswith(prefix) for item in found)
        return sorted(item["Key"].removeprefix(prefix) for item in found)

    def read(name: str) -> str:
        return client.get_object(Bucket=BUCKET, Key=prefix + name)["Body"].read().decode()

    return Place(S3QueueFiles(client, BUCKET, "/sosw/scheduler/"), names, read)


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place for queue files."""
    if request.param == "directory":
        yield _directory(tmp_path)
        return
    with mock_aws():
        yield _bucket(boto3.client("s3", region_name="eu-west-1"))


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A directory for working copies."""
    path = tmp_path / "local"
    path.mkdir()
    return path


def test_a_file_goes_its_way(place: Place, local: Path) -> None:
    """Put, locked, popped, unlocked with its rest, locked again, deleted: at each step it stands where it should."""
    place.files.put(NAME, ROWS)
    assert place.names() == [NAME]
    assert place.read(NAME) == "".join(row + "\n" for row in ROWS)
    copy = place.files.lock(NAME, local)
    assert copy is not None
    assert place.names() == [f"locked_{NAME}"]
    assert pop_rows(copy, 2) == ROWS[:2]
    assert place.read(f"locked_{NAME}").count("\n") == 3
    place.files.unlock(NAME, read_rows(copy))
    assert place.names() == [NAME]
    again = place.files.lock(NAME, local)
    assert again is not None
    assert list(read_rows(again)) == ROWS[2:]
    place.files.delete(NAME)
    assert place.names() == []


def test_a_locked_file_is_nobody_elses(place: Place, local: Path) -> None:
    """A second lock is refused while the first one stands; whoever knows the owner to be dead can take it."""
    place.files.put(NAME, ROWS)
    assert place.files.lock(NAME, local) is not None
    other = local / "other"
    other.mkdir()
    assert place.files.lock(NAME, other) is None
    assert list(other.iterdir()) == []
    stolen = place.files.lock(NAME, other, steal=True)
    assert stolen is not None
    assert list(read_rows(stolen)) == ROWS
    assert place.names() == [f"locked_{NAME}"]


def test_what_is_not_there_cannot_be_locked(place: Place, local: Path) -> None:
    """A missing file is None, also for a thief, and the attempt leaves nothing behind."""
    assert place.files.lock(NAME, local) is None
    assert place.files.lock(NAME, local, steal=True) is None
    assert place.names() == []


def test_the_unlocked_twin_is_the_newer_one(place: Place, local: Path) -> None:
    """An owner that died while unlocking left both twins: the thief gets the rest, and one twin stays."""
    place.files.put(NAME, ROWS)
    assert place.files.lock(NAME, local) is not None
    place.files.put(NAME, ROWS[1:])
    assert place.files.lock(NAME, local) is None
    stolen = place.files.lock(NAME, local, steal=True)
    assert stolen is not None
    assert list(read_rows(stolen)) == ROWS[1:]
    assert place.names() == [f"locked_{NAME}"]


def test_of_many_one_gets_the_lock(place: Place, local: Path) -> None:
    """Of eight who lock at the same time exactly one gets the file, ten times."""
    for turn in range(10):
        name = file_name("tasks.txt", "race", 1, turn)
        place.files.put(name, ROWS)
        start = threading.Barrier(8)
        won: list[Path] = []

        def race(number: int, name: str = name, start: threading.Barrier = start, won: list[Path] = won) -> None:
            own = local / f"{name}.{number}"
            own.mkdir()
            start.wait()
            if (copy := place.files.lock(name, own)) is not None:
                won.append(copy)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert list(read_rows(won[0])) == ROWS


def test_a_put_is_whole_or_not_at_all(place: Place) -> None:
    """When the rows turn out wrong halfway, nothing is stored, and the error comes through as it is."""

    def rows() -> Iterator[str]:
        yield from ROWS
        raise LookupError("a bad row")

    with pytest.raises(LookupError, match="a bad row"):
        place.files.put(NAME, rows())
    assert place.names() == []


def test_a_put_replaces(place: Place) -> None:
    """Putting a file again is the file of the last put."""
    place.files.put(NAME, ROWS)
    place.files.put(NAME, ROWS[:1])
    assert place.names() == [NAME]
    assert place.read(NAME) == ROWS[0] + "\n"


def test_a_put_takes_its_rows_one_by_one(place: Place) -> None:
    """Rows are taken from an iterator of any length, and none is kept in memory by the store."""
    alive: list[int] = []

    def rows() -> Iterator[str]:
        for number in range(20_000):
            alive.append(number)
            yield f"{number}\t{{}}"

    place.files.put(NAME, rows())
    assert place.read(NAME).count("\n") == len(alive) == 20_000


def test_deleting_and_clearing(place: Place, local: Path) -> None:
    """Deleting is idempotent and takes both twins; clearing takes a beginning's files and leaves the others."""
    place.files.delete(NAME)
    assert place.files.clear("tasks_queue_j1.1_") == 0
    for part in range(3):
        place.files.put(file_name("tasks_queue.txt", "j1", 1, part), ROWS)
    place.files.put(file_name("tasks_queue.txt", "j1", 2, 0), ROWS)
    assert place.files.lock(file_name("tasks_queue.txt", "j1", 1, 1), local) is not None
    assert place.files.clear("tasks_queue_j1.1_") == 3
    assert place.names() == ["tasks_queue_j1.2_00000.txt"]


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "a\\b", "a\0b"])
def test_no_name_leads_out(place: Place, local: Path, name: str) -> None:
    """A name that could mean a place outside of the prefix is refused by every method."""
    calls: list[Callable[[], Any]] = [
        lambda: place.files.put(name, ROWS),
        lambda: place.files.lock(name, local),
        lambda: place.files.unlock(name, ROWS),
        lambda: place.files.delete(name),
        lambda: place.files.clear(name),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not the name of a queue file"):
            call()
    assert place.names() == []


HOSTILE = [
    "../../x",
    "/etc/passwd",
    "..",
    "a" * 512,
    "ü" * 256,
    "😀" * 128,
    "x\0y",
    "CON",
    "A",
    "a",
    "a.b",
    "a\nb",
    " ",
]


def test_every_job_id_has_a_file_of_its_own(place: Place) -> None:
    """Job ids of any kind, hostile ones too, make files inside the prefix, each its own, also where case is folded."""
    names = [file_name("tasks_queue.txt", job_id, 1, 0) for job_id in HOSTILE]
    assert len({name.lower() for name in names}) == len(HOSTILE)
    for name in names:
        place.files.put(name, ROWS)
    assert place.names() == sorted(names)


# ---- the local working copy


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100, 101, 1000])
def test_rows_leave_from_the_top(tmp_path: Path, rows: int) -> None:
    """Popping gives every row once, in order, whatever the size of a pop; what is left is always the rest."""
    lines = [f"{number}\t{'é' * (number % 40)}" for number in range(100)]
    path = tmp_path / "rows"
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    popped: list[str] = []
    while taken := pop_rows(path, rows):
        popped += taken
        assert list(read_rows(path)) == lines[len(popped) :]
        if path.exists():
            assert path.read_bytes().lstrip(b"\0").decode() == "".join(line + "\n" for line in lines[len(popped) :])
    assert popped == lines
    assert not path.exists()
    assert pop_rows(path, rows) == []


def test_a_last_row_without_a_line_end_counts(tmp_path: Path) -> None:
    """A file that somebody wrote by hand, without a last line end, loses no row."""
    path = tmp_path / "rows"
    path.write_text("0\t{}\n1\t{}")
    assert pop_rows(path, 1) == ["0\t{}"]
    assert pop_rows(path, 5) == ["1\t{}"]
    assert not path.exists()


def test_a_pop_does_not_rewrite_the_file(tmp_path: Path) -> None:
    """Taking one row of a long file writes as much as the row, not as the file: the file stays the same one."""
    path = tmp_path / "rows"
    path.write_text("".join(f"{number}\t{{}}\n" for number in range(200_000)))
    before = path.stat()
    assert pop_rows(path, 1) == ["0\t{}"]
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_size == before.st_size
    assert next(read_rows(path)) == "1\t{}"


# ---- the directory alone, and errors


def test_a_directory_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    """A path that is a file cannot be the place: an error of ours, with the system's own code."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError) as caught:
        DirectoryQueueFiles(blocked).put(NAME, ROWS)
    assert (caught.value.store, caught.value.code) == ("directory", "EEXIST")


def test_a_full_disk_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is "try again later", and leaves no half of a file."""

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreUnavailable):
        DirectoryQueueFiles(tmp_path / "q").put(NAME, ROWS)
    assert os.listdir(tmp_path / "q") == []


def test_others_cannot_read_the_rows(tmp_path: Path) -> None:
    """Payloads may be nobody else's business: files are readable by their owner only."""
    DirectoryQueueFiles(tmp_path).put(NAME, ROWS)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_a_missing_bucket_is_an_error_of_the_store(local: Path) -> None:
    """A bucket that is not there is not taken for a missing file."""
    with mock_aws():
        files = S3QueueFiles(boto3.client("s3", region_name="eu-west-1"), "no-such-bucket")
        for call in (lambda: files.put(NAME, ROWS), lambda: files.lock(NAME, local)):
            with pytest.raises(StoreError) as caught:
                call()
            assert caught.value.code == "NoSuchBucket"


def test_an_s3_that_does_not_answer_may_later() -> None:
    """Nobody at the address: try again later."""
    client = boto3.client("s3", endpoint_url="http://127.0.0.1:9", region_name="eu-west-1")
    client.meta.events.register("needs-retry.s3", lambda **_: None)
    with pytest.raises(StoreUnavailable):
        S3QueueFiles(client, BUCKET).delete(NAME)


def test_the_setting_chooses_the_place(tmp_path: Path) -> None:
    """`file:///...` is a directory, with the prefix in it; anything else a bucket, and only that needs a client."""

    def no_client() -> S3Client:
        raise AssertionError("a directory needs no client")

    settings = load_settings({"queue_bucket": f"file://{tmp_path}/a%20b", "s3_prefix": "x/y"})
    files = queue_files_from(settings, s3=no_client)
    assert isinstance(files, DirectoryQueueFiles)
    assert files.path == tmp_path / "a b" / "x" / "y"
    with mock_aws():
        client = boto3.client("s3", region_name="eu-west-1")
        bucket = queue_files_from(load_settings({"queue_bucket": BUCKET}), s3=lambda: client)
    assert isinstance(bucket, S3QueueFiles)
    assert (bucket.bucket, bucket.prefix) == (BUCKET, "sosw/scheduler/")


def test_clearing_takes_what_a_killed_process_left_half_written(tmp_path: Path) -> None:
    """The temporary file of a `put` that never ended goes with the files of its job, and with no other's."""
    files = DirectoryQueueFiles(tmp_path)
    name = file_name("tasks_queue.txt", "j1", 1, 0)

    def killed() -> Iterator[str]:
        """Copy the directory as a kill in this moment would leave it."""
        yield from ROWS
        (half_written,) = tmp_path.iterdir()
        (tmp_path / f"{half_written.name}.left").touch()

    files.put(name, killed())
    (left,) = tmp_path.glob(".*.left")
    assert files.clear("tasks_queue_j2.1_") == 0
    assert left.exists()
    assert files.clear("tasks_queue_j1.1_") == 2
    assert list(tmp_path.iterdir()) == []
