"""What `status`, `job` and `task` draw; what they count is `services/overview`'s."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sosw_celery.cli import schedule, sosw, status, task
from sosw_celery.cli.job import job_fields, time_text
from sosw_celery.cli.output import duration
from sosw_celery.cli.task import task_dict, task_fields
from sosw_celery.config.settings import load_settings
from sosw_celery.core.tasks.model import JobState, JobSummary, Task
from sosw_celery.services.overview import COUNT_LIMIT, LabourerStatus, NotServed, SystemStatus, TaskState, TaskStatus
from sosw_celery.services.scheduled_jobs import LastTick

NOW = Decimal("1770000000.5")
DELTA = Decimal(31_557_600)
SETTINGS = load_settings({"labourers": {"resize": {}}})


def row(**fields: Any) -> Task:
    """Return a queued task with these fields."""
    values: dict[str, Any] = {"task_id": "5a0d", "labourer_id": "resize", "greenfield": NOW - 5, "created_at": NOW - 5}
    return Task(**(values | fields))


def test_a_task_is_shown_in_the_order_of_its_life() -> None:
    """Ids, times from creation to close, what it left behind, and its payload last, laid out."""
    closed = row(
        greenfield=NOW + DELTA,
        attempts=2,
        failed_attempts=1,
        completed_at=NOW + 2,
        closed_at=NOW + 4,
        payload='{"images": [1, 2]}',
        extra={"stat_images": 2, "last_error": "OSError: gone", "result_sizes": {"big": Decimal("1.5")}},
    )
    fields = task_fields(TaskStatus(closed, "closed", TaskState.CLOSED_COMPLETED, claimed_at=NOW))
    shown = {name: value for name, value in fields.items() if value not in ("", None)}
    assert list(shown) == [
        *("task", "labourer", "state", "created", "claimed", "attempts", "failed", "completed", "closed"),
        *("last_error", "result_sizes", "stat_images", "payload"),
    ]
    assert (shown["state"], shown["claimed"]) == ("closed, completed", "2026-02-02 02:40:00 UTC")
    assert shown["payload"] == '{\n  "images": [\n    1,\n    2\n  ]\n}'


def test_a_payload_that_is_no_json_is_shown_as_it_is() -> None:
    """A row that somebody else broke can be looked at all the same."""
    found = TaskStatus(row(payload="{broken"), "tasks", TaskState.QUEUED)
    assert task_fields(found)["payload"] == "{broken"
    assert task_dict(found)["payload"] == "{broken"


def test_a_queued_task_shows_no_time_of_claim() -> None:
    """Nobody has claimed it."""
    assert task_fields(TaskStatus(row(), "tasks", TaskState.QUEUED))["claimed"] == ""


def test_a_job_that_is_not_chunked_has_no_number_of_tasks_yet() -> None:
    """Nothing is claimed about what is not known."""
    fields = job_fields(JobSummary("nightly", "resize", JobState.ACCEPTED, accepted_at=NOW))
    assert fields["tasks"] == "not known yet"
    assert fields["accepted"] == "2026-02-02 02:40:00 UTC"


def test_times_that_no_calendar_has_are_shown_as_numbers() -> None:
    """A field that somebody set to nonsense breaks no command."""
    assert time_text(Decimal(10) ** 30) == "1" + "0" * 30
    assert time_text(None) == ""


LABOURER = LabourerStatus(
    labourer_id="resize",
    queued=7,
    running=3,
    handed_out=1,
    cap=4,
    waiting=2,
    slots="ready",
    health=None,
    limit=4,
    average_duration_s=4.0,
    max_duration_s=9.5,
    eta_s=11.0,
    nodes=2,
    processes=6,
)
JOB = JobSummary("nightly", "resize", JobState.SCHEDULED, tasks=1200, written=1200, completed=900, dead=1)
NOTHING = SystemStatus(labourers=[LABOURER], jobs=[], not_served=NotServed(), ticks=[])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `status` on what a test says is found."""

    def run(found: SystemStatus, *options: str) -> Result:
        def system(jobs: int) -> SystemStatus:
            return replace(found, jobs=found.jobs[:jobs])

        services = SimpleNamespace(settings=SETTINGS, overview=SimpleNamespace(system=system))
        monkeypatch.setattr(status, "services_at", lambda data: services)
        return CliRunner().invoke(sosw, ["status", *options])

    return run


def test_a_queue_that_was_not_counted_to_its_end_has_a_plus(run: Callable[..., Result]) -> None:
    """It is that long or longer."""
    found = replace(NOTHING, labourers=[replace(LABOURER, queued=COUNT_LIMIT, eta_s=None)])
    lines = run(found).stdout.splitlines()
    assert lines[1].split() == ["resize", "10,000+", "3/4", "1", "2", "6", "ready", "-", "-"]
    assert lines[-1] == "no open jobs"


@pytest.mark.parametrize(
    ("health", "limit", "shown", "eta_s"),
    [
        (None, 4, "-", 32.0),
        (4, 4, "4", 32.0),
        (2, 2, "2: 2 of 4", 62.0),
        (0, 0, "0: 0 of 4", None),
        (None, 0, "?: 0 of 4", None),
    ],
)
def test_status_shows_health_and_when_a_queue_will_be_done(
    run: Callable[..., Result], health: int | None, limit: int, shown: str, eta_s: float | None
) -> None:
    """What health leaves stands beside it where that is not all; a dash is what cannot be told."""
    found = replace(NOTHING, labourers=[replace(LABOURER, health=health, limit=limit, eta_s=eta_s)])
    line = run(found).stdout.splitlines()[1]
    assert re.split("  +", line)[-2:] == [shown, duration(eta_s)]


def test_programs_get_all_that_is_counted_of_a_labourer(run: Callable[..., Result]) -> None:
    """Under names that stay, with the limit of counting."""
    (told,) = json.loads(run(NOTHING, "--json").stdout)["labourers"]
    assert told == {
        "labourer_id": "resize",
        "queued": 7,
        "running": 3,
        "handed_out": 1,
        "cap": 4,
        "waiting": 2,
        "slots": "ready",
        "health": None,
        "limit": 4,
        "average_duration_s": 4.0,
        "max_duration_s": 9.5,
        "eta_s": 11.0,
        "nodes": 2,
        "processes": 6,
        "count_limit": 10_000,
    }


def test_status_lists_open_jobs(run: Callable[..., Result]) -> None:
    """Each with how far it is, for people and for programs; as many as are asked for."""
    found = replace(NOTHING, jobs=[JOB])
    assert run(found).stdout.splitlines()[-1].split() == [
        *("nightly", "resize", "scheduled", "1,200", "1,200", "900", "1")
    ]
    assert json.loads(run(found, "--json").stdout)["jobs"] == [JOB.as_dict()]
    assert run(found, "--jobs", "0").stdout.splitlines()[-1] == "jobs not asked for"


ESSENTIALS = ("sosw_scheduler", "sosw_orchestrator", "sosw_scavenger", "sosw_worker_assistant")


@pytest.mark.parametrize(
    ("missing", "warnings"),
    [
        (
            NotServed(own=("sosw_scheduler",), not_configured=("resise",)),
            [
                "no worker serves sosw_scheduler: celery -A sosw_celery worker -Q sosw_scheduler",
                "labourer resise is not configured, its tasks wait until it is, did you mean 'resize'?",
            ],
        ),
        (
            NotServed(own=ESSENTIALS, labourers=("resize",)),
            [
                f"no worker serves {', '.join(ESSENTIALS)}: celery -A sosw_celery worker -Q {','.join(ESSENTIALS)}",
                "no worker serves resize: celery -A sosw_celery worker -Q resize",
            ],
        ),
    ],
)
def test_status_names_what_nobody_serves(run: Callable[..., Result], missing: NotServed, warnings: list[str]) -> None:
    """What is missing is a line on stderr with the command that starts it: a newcomer who started nothing reads all."""
    found = replace(NOTHING, not_served=missing)
    assert run(found).stderr.splitlines() == [f"warning: {text}" for text in warnings]
    assert json.loads(run(found, "--json").stdout)["warnings"] == warnings


def test_the_command_that_would_help_is_that_of_the_app_which_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of one's own has workers of its own; `-A sosw_celery` would be another app."""
    found = replace(NOTHING, not_served=NotServed(labourers=("resize",)))
    services = SimpleNamespace(settings=SETTINGS, overview=SimpleNamespace(system=lambda jobs: found))
    monkeypatch.setattr(status, "services_at", lambda data: services)
    shown = CliRunner().invoke(sosw, ["-A", "proj.celery:app", "status"])
    assert shown.stderr == "warning: no worker serves resize: celery -A proj.celery:app worker -Q resize\n"


def test_status_tells_what_became_of_scheduled_jobs(run: Callable[..., Result]) -> None:
    """A refusal at three in the morning is a warning as well, with its reason; an entry without a plan has no times."""
    planned_at = datetime(2026, 2, 2, tzinfo=timezone.utc)
    times = (planned_at, planned_at + timedelta(days=1))
    ticks = [
        LastTick("fine", *times, "fine@2026-02-02T00:00:00Z", "completed"),
        LastTick("refused", *times, "refused@2026-02-02T00:00:00Z", "refused", "job.period: unknown"),
        LastTick("unplanned", None, None, state="refused", error="schedule: unknown"),
    ]
    found = replace(NOTHING, ticks=ticks)
    answer = run(found)
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert ["fine", "2026-02-02T00:00:00Z", "completed", "2026-02-03T00:00:00Z"] in lines
    assert ["refused", "2026-02-02T00:00:00Z", "refused", "2026-02-03T00:00:00Z"] in lines
    assert ["unplanned", "-", "refused", "-"] in lines
    warnings = [
        "scheduled job refused is refused, last tick 2026-02-02T00:00:00Z: job.period: unknown",
        "scheduled job unplanned is refused, last tick -: schedule: unknown",
    ]
    assert answer.stderr.splitlines() == [f"warning: {text}" for text in warnings]
    told = json.loads(run(found, "--json").stdout)
    assert told["warnings"] == warnings
    assert told["scheduled_jobs"][1] == {
        "name": "refused",
        "planned_at": "2026-02-02T00:00:00Z",
        "next_at": "2026-02-03T00:00:00Z",
        "job_id": "refused@2026-02-02T00:00:00Z",
        "state": "refused",
        "error": "job.period: unknown",
    }
    assert (told["scheduled_jobs"][2]["planned_at"], told["scheduled_jobs"][2]["next_at"]) == (None, None)


def test_waiting_for_a_job_that_nobody_works_on_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds without progress; as long as tasks are done, and once it was said, it is silent."""
    now = 100.0
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now)
    overview = SimpleNamespace(not_served=lambda labourer_ids: NotServed(labourers=labourer_ids))
    nudge = schedule._Nudge(SimpleNamespace(settings=SETTINGS, overview=overview))  # type: ignore[arg-type]
    job = JobSummary("nightly", "resize", JobState.SCHEDULED, tasks=9, written=9)
    said = []
    for step in range(6):
        now = 100.0 + 9 * step
        said.append(nudge(replace(job, completed=min(step, 2))))
    line = "no worker serves resize: celery -A sosw_celery worker -Q resize"
    assert said == ["", "", "", "", line, ""]


def test_a_tasks_json_has_its_fields_and_its_parsed_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs get numbers as numbers and the payload as an object."""
    found = TaskStatus(row(payload='{"a": 1}', extra={"stat_images": 2}), "tasks", TaskState.QUEUED)
    services = SimpleNamespace(overview=SimpleNamespace(task=lambda task_id: found))
    monkeypatch.setattr(task, "services_at", lambda data: services)
    shown = json.loads(CliRunner().invoke(sosw, ["task", "5a0d", "--json"]).stdout)
    assert (shown["state"], shown["table"], shown["payload"], shown["stat_images"]) == ("queued", "tasks", {"a": 1}, 2)
    assert shown["created_at"] == float(NOW - 5)
