"""The Scheduler as programs of sosw's users make and call it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import fakeredis
import moto
import pytest
from celery import Celery

from sosw_celery import Scheduler
from sosw_celery.config.settings import load_settings
from sosw_celery.core.tasks.model import Task
from sosw_celery.errors import ConfigError, InvalidJob
from sosw_celery.services.scheduler import scheduler_class
from sosw_celery.stores.dynamodb.tables import create_tables
from sosw_celery.wiring.container import Services, services_of

JOB = {"lambda_name": "resize", "isolate_stores": True, "stores": ["a", "b", "c"]}


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Services]:
    """The services of this process, with empty tables."""
    app = Celery("own scheduler", broker="memory://", set_as_current=False)
    app.conf.sosw = {
        "labourers": {"resize": {}},
        "job_schema": {"chunkable_attrs": ["store"]},
        "queue_bucket": f"file://{tmp_path}",
        "s3_prefix": "q",
        "rows_per_file": 2,
    }
    with moto.mock_aws():
        found = services_of(app)
        found.__dict__["redis"] = fakeredis.FakeRedis()
        create_tables(found.dynamodb, found.tables)
        monkeypatch.setattr("sosw_celery.system.own_scheduler.current", lambda: app)
        yield found


def rows(services: Services) -> list[Task]:
    """What stands in the queue."""
    return services.task_table.queued("resize", now=Decimal(10**10), start=None, limit=100)


def files(tmp_path: Path) -> list[str]:
    """The queue files that are there."""
    return sorted(path.name for path in (tmp_path / "q").glob("*"))


def test_a_scheduler_without_arguments_is_that_of_this_process(services: Services) -> None:
    """Called with an event it writes its tasks, as on Lambda, and returns the summary of the job."""
    summary = Scheduler()({**JOB, "job_id": "j1"})
    assert (summary["job_id"], summary["tasks"], summary["written"]) == ("j1", 3, 3)
    assert len(rows(services)) == 3
    assert Scheduler()({**JOB, "job_id": "j1"})["tasks"] == 3
    assert len(rows(services)) == 3  # submitting twice is submitting once


def test_a_configuration_of_its_own_is_laid_over_the_section(services: Services) -> None:
    """By its name or as the first argument, as in sosw; what is wrong in it is named."""
    for scheduler in (Scheduler(custom_config={"rows_per_file": 7}), Scheduler({"rows_per_file": 7})):
        assert scheduler.settings.rows_per_file == 7
        assert list(scheduler.settings.labourers) == ["resize"]
    with pytest.raises(ConfigError, match=r"sosw\.rows_per_file"):
        Scheduler(custom_config={"rows_per_file": 0})


def test_queue_files_are_worked_on_outside_of_a_run(services: Services, tmp_path: Path) -> None:
    """A job is parsed into files, the last one taken and given back; writing it removes all of them."""
    scheduler = Scheduler()
    assert scheduler.parse_job_to_file({**JOB, "job_id": "j1"}) == 3
    assert len(files(tmp_path)) == 2
    copy = scheduler.get_and_lock_queue_file()
    assert [name.startswith("locked_") for name in files(tmp_path)].count(True) == 1
    assert len(scheduler.pop_rows_from_file(copy, 1)) == 1
    scheduler.upload_and_unlock_queue_file()
    assert not any(name.startswith("locked_") for name in files(tmp_path))
    scheduler.process_file()
    assert [task.job_id for task in rows(services)] == ["j1"] * 3
    assert files(tmp_path) == []


def test_what_was_not_parsed_cannot_be_written(services: Services) -> None:
    """The error says which call comes first; a job that is none is refused as everywhere."""
    with pytest.raises(RuntimeError, match="parse_job_to_file comes first"):
        Scheduler().process_file()
    with pytest.raises(InvalidJob, match=r"job\.lambda_name"):
        Scheduler()({**JOB, "lambda_name": "resise"})


def test_a_subclass_is_made_by_hand_and_by_the_configuration(services: Services) -> None:
    """What it overrides counts in both."""

    class OurScheduler(Scheduler):
        def construct_job_data(self, job, skeleton=None):  # type: ignore[no-untyped-def]
            """Return the payloads with a mark."""
            return [{**payload, "marked": True} for payload in super().construct_job_data(job, skeleton)]

    OurScheduler()({**JOB, "job_id": "j2"})
    assert all('"marked":true' in task.payload.replace(" ", "") for task in rows(services))
    made = OurScheduler(services.settings, **services.parts_of_scheduler)
    assert made.construct_job_data(JOB)[0]["marked"]
    assert issubclass(Scheduler, scheduler_class(load_settings({})))
