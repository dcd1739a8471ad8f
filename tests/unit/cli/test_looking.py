"""What `status`, `job` and `task` say about rows and counts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from sosw_celery import clock
from sosw_celery.cli import schedule, sosw, status, task
from sosw_celery.cli.job import job_fields, time_text
from sosw_celery.cli.output import duration
from sosw_celery.cli.status import COUNT_LIMIT, labourer_status
from sosw_celery.cli.task import state_of, task_dict, task_fields
from sosw_celery.config.settings import load_settings
from sosw_celery.core.health import EcoStatus
from sosw_celery.core.tasks.model import JobState, JobSummary, Task
from sosw_celery.services.ecology import Health
from sosw_celery.stores.dynamodb.task_table import Found
from sosw_celery.stores.redis.node_registry import NodeNote
from sosw_celery.stores.redis.slots import Usage

NOW = Decimal("1770000000.5")
DELTA = Decimal(31_557_600)


def row(**fields: Any) -> Task:
    """Return a queued task with these fields."""
    values: dict[str, Any] = {"task_id": "5a0d", "labourer_id": "resize", "greenfield": NOW - 5, "created_at": NOW - 5}
    return Task(**(values | fields))


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (Found(row(), "tasks"), "queued"),
        (Found(row(greenfield=NOW + DELTA), "tasks"), "running"),
        (Found(row(greenfield=NOW + DELTA, completed_at=NOW), "tasks"), "completed, not archived yet"),
        (Found(row(desired_launch_time=NOW + 9), "retry"), "waiting for retry"),
        (Found(row(closed_at=NOW), "closed"), "closed, completed"),
        (Found(row(closed_at=NOW), "closed", dead=True), "closed, dead"),
    ],
)
def test_a_tasks_state_is_told_in_the_words_of_its_life(found: Found, state: str) -> None:
    """The table and the greenfield together tell the state."""
    assert state_of(found, NOW) == state


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
    fields = task_fields(Found(closed, "closed"), NOW + 9, DELTA)
    shown = {name: value for name, value in fields.items() if value not in ("", None)}
    assert list(shown) == [
        *("task", "labourer", "state", "created", "claimed", "attempts", "failed", "completed", "closed"),
        *("last_error", "result_sizes", "stat_images", "payload"),
    ]
    assert shown["claimed"] == "2026-02-02 02:40:00 UTC"
    assert shown["payload"] == '{\n  "images": [\n    1,\n    2\n  ]\n}'


def test_a_payload_that_is_no_json_is_shown_as_it_is() -> None:
    """A row that somebody else broke can be looked at all the same."""
    found = Found(row(payload="{broken"), "tasks")
    assert task_fields(found, NOW, DELTA)["payload"] == "{broken"
    assert task_dict(found, NOW)["payload"] == "{broken"


def test_a_queued_task_shows_no_time_of_claim() -> None:
    """Its greenfield is its place in the queue, not a claim."""
    assert task_fields(Found(row(), "tasks"), NOW, DELTA)["claimed"] == ""


def test_a_job_that_is_not_chunked_has_no_number_of_tasks_yet() -> None:
    """Nothing is claimed about what is not known."""
    fields = job_fields(JobSummary("nightly", "resize", JobState.ACCEPTED, accepted_at=NOW))
    assert fields["tasks"] == "not known yet"
    assert fields["accepted"] == "2026-02-02 02:40:00 UTC"


def test_times_that_no_calendar_has_are_shown_as_numbers() -> None:
    """A field that somebody set to nonsense breaks no command."""
    assert time_text(Decimal(10) ** 30) == "1" + "0" * 30
    assert time_text(None) == ""


class Services(SimpleNamespace):
    """Stand-ins that count and find what a test says."""

    def __init__(
        self,
        queued: int = 0,
        waiting: int = 0,
        jobs: tuple[JobSummary, ...] = (),
        health: Health | None = None,
        average_s: float | None = None,
        nodes: tuple[NodeNote, ...] = (),
        scheduled: dict[str, Any] | None = None,
        cap: int = 4,
    ) -> None:
        self.asked: list[int] = []

        def counted(number: int) -> Any:
            def count(labourer_id: str, *, at_most: int, **_: Any) -> int:
                self.asked.append(at_most)
                return number

            return count

        by_id = {job.job_id: job for job in jobs}
        own: dict[str, Any] = {"max_simultaneous_invocations": 4}
        if health is not None:
            details = {"function": "time:time"}
            metric = {"source": "callable", "details": details, "feelings": {4: 1}, "feeling_comparison_operator": "<="}
            own["health_metrics"] = {"load": metric}
        ecology = SimpleNamespace(
            health_of=lambda labourer_id: health,
            share_of=lambda labourer_id: 1.0 if health is None else health.coefficient,
        )
        measured = partial(replace, average_duration_s=average_s, max_duration_s=average_s)
        super().__init__(
            settings=load_settings({"labourers": {"resize": own}, "scheduled_jobs": scheduled or {}}),
            ecology=ecology,
            durations=SimpleNamespace(measured=measured),
            nodes=SimpleNamespace(all=lambda: list(nodes)),
            slots=SimpleNamespace(look=lambda labourer_id, share: Usage(1, 3, "ready", cap=cap)),
            task_table=SimpleNamespace(count_queued=counted(queued), count_waiting=counted(waiting)),
            job_table=SimpleNamespace(
                unfinished=lambda limit: list(by_id),
                get=by_id.__getitem__,
                records=lambda job_ids: map(by_id.__getitem__, job_ids),
            ),
        )


def test_a_huge_queue_is_not_counted_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting stops at the limit, which is shown with a plus; an index page too many changes nothing."""
    services = Services(queued=COUNT_LIMIT + 2345, waiting=7)
    assert labourer_status(services, "resize").queued == COUNT_LIMIT  # type: ignore[arg-type]
    assert services.asked == [COUNT_LIMIT, COUNT_LIMIT]
    monkeypatch.setattr(status, "services_at", lambda data: services)
    lines = CliRunner().invoke(sosw, ["status"]).stdout.splitlines()
    assert lines[1].split() == ["resize", "10,000+", "3/4", "1", "7", "0", "ready", "-", "-"]
    assert lines[-1] == "no open jobs"


@pytest.mark.parametrize(
    ("health", "shown", "eta_s"),
    [
        (None, "-", 32.0),
        (Health(EcoStatus.HIGH, 1.0), "4", 32.0),
        (Health(EcoStatus.MODERATE, 0.5), "2: 2 of 4", 62.0),
        (Health(EcoStatus.BAD, 0.0), "0: 0 of 4", None),
        (Health(None, 0.0), "?: 0 of 4", None),
    ],
)
def test_status_tells_health_and_when_a_queue_will_be_done(
    monkeypatch: pytest.MonkeyPatch, health: Health | None, shown: str, eta_s: float | None
) -> None:
    """23 tasks queued, 7 waiting, 3 running, 4 s each: on the slots that health leaves."""
    services = Services(queued=23, waiting=7, health=health, average_s=4.0)
    found = labourer_status(services, "resize")  # type: ignore[arg-type]
    assert found.eta_s == eta_s
    monkeypatch.setattr(status, "services_at", lambda data: services)
    line = CliRunner().invoke(sosw, ["status"]).stdout.splitlines()[1]
    assert re.split("  +", line)[-2:] == [shown, duration(eta_s)]
    (told,) = json.loads(CliRunner().invoke(sosw, ["status", "--json"]).stdout)["labourers"]
    assert (told["average_duration_s"], told["cap"], told["eta_s"]) == (4.0, 4, eta_s)


def test_status_lists_open_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with how far it is, for people and for programs."""
    job = JobSummary("nightly", "resize", JobState.SCHEDULED, tasks=1200, written=1200, completed=900, dead=1)
    monkeypatch.setattr(status, "services_at", lambda data: Services(jobs=(job,)))
    lines = CliRunner().invoke(sosw, ["status"]).stdout.splitlines()
    assert lines[-1].split() == ["nightly", "resize", "scheduled", "1,200", "1,200", "900", "1"]
    found = json.loads(CliRunner().invoke(sosw, ["status", "--json"]).stdout)
    assert found["jobs"] == [job.as_dict()]
    assert found["labourers"][0]["running"] == 3


ESSENTIALS = ("sosw_scheduler", "sosw_orchestrator", "sosw_scavenger", "sosw_worker_assistant")


def test_status_counts_the_workers_of_a_labourer_and_names_what_nobody_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of nodes that live; what is missing is a line on stderr with the command that starts it."""
    note = {"capacity": 4, "queues": ["resize"]}
    nodes = (
        *(NodeNote("a@h", 1, note), NodeNote("b@h", 1, {**note, "capacity": 2}), NodeNote("dead@h", 60, note)),
        NodeNote("c@h", 1, {"capacity": 1, "queues": ["sosw_orchestrator", "sosw_scavenger", "sosw_worker_assistant"]}),
    )
    job = JobSummary("nightly", "resise", JobState.SCHEDULED, tasks=2, written=2)
    monkeypatch.setattr(status, "services_at", lambda data: Services(nodes=nodes, jobs=(job,)))
    answer = CliRunner().invoke(sosw, ["status"])
    head, line = (re.split("  +", text) for text in answer.stdout.splitlines()[:2])
    assert dict(zip(head, line, strict=True))["workers"] == "6"
    warnings = [
        "no worker serves sosw_scheduler: celery -A sosw_celery worker -Q sosw_scheduler",
        "labourer resise is not configured, its tasks wait until it is, did you mean 'resize'?",
    ]
    assert answer.stderr.splitlines() == [f"warning: {text}" for text in warnings]
    told = json.loads(CliRunner().invoke(sosw, ["status", "--json"]).stdout)
    assert (told["labourers"][0]["nodes"], told["labourers"][0]["processes"]) == (2, 6)
    assert told["warnings"] == warnings


def test_status_tells_what_became_of_scheduled_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal at three in the morning is a warning as well, with its reason."""
    fine, refused = (f"{name}@2026-02-02T00:00:00Z" for name in ("fine", "refused"))
    jobs = (
        JobSummary(fine, "resize", JobState.COMPLETED),
        JobSummary(refused, "resize", JobState.REFUSED, error="job.period: unknown"),
    )
    entry = {"schedule": 86_400, "job": {"lambda_name": "resize"}}
    services = Services(jobs=jobs, scheduled={"fine": entry, "refused": entry})
    monkeypatch.setattr(status, "services_at", lambda data: services)
    monkeypatch.setattr(clock, "now", lambda: NOW)
    answer = CliRunner().invoke(sosw, ["status"])
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert ["fine", "2026-02-02T00:00:00Z", "completed", "2026-02-03T00:00:00Z"] in lines
    assert ["refused", "2026-02-02T00:00:00Z", "refused", "2026-02-03T00:00:00Z"] in lines
    warning = "scheduled job refused is refused, last tick 2026-02-02T00:00:00Z: job.period: unknown"
    assert f"warning: {warning}" in answer.stderr.splitlines()
    told = json.loads(CliRunner().invoke(sosw, ["status", "--json"]).stdout)
    assert warning in told["warnings"]
    assert told["scheduled_jobs"][1] == {
        "name": "refused",
        "planned_at": "2026-02-02T00:00:00Z",
        "next_at": "2026-02-03T00:00:00Z",
        "job_id": refused,
        "state": "refused",
        "error": "job.period: unknown",
    }


def test_status_of_a_system_without_workers_says_how_to_start_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer who started nothing reads both commands."""
    monkeypatch.setattr(status, "services_at", lambda data: Services())
    own = ",".join(ESSENTIALS)
    assert CliRunner().invoke(sosw, ["status"]).stderr.splitlines() == [
        f"warning: no worker serves {', '.join(ESSENTIALS)}: celery -A sosw_celery worker -Q {own}",
        "warning: no worker serves resize: celery -A sosw_celery worker -Q resize",
    ]


def test_waiting_for_a_job_that_nobody_works_on_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds without progress; as long as tasks are done, and once it was said, it is silent."""
    now = 100.0
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now)
    everything = NodeNote("e@h", 1, {"capacity": 4, "queues": ESSENTIALS})
    nudge = schedule._Nudge(Services(nodes=(everything,)))  # type: ignore[arg-type]
    job = JobSummary("nightly", "resize", JobState.SCHEDULED, tasks=9, written=9)
    said = []
    for step in range(6):
        now = 100.0 + 9 * step
        said.append(nudge(replace(job, completed=min(step, 2))))
    line = "no worker serves resize: celery -A sosw_celery worker -Q resize"
    assert said == ["", "", "", "", line, ""]


def test_a_tasks_json_has_its_fields_and_its_parsed_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs get numbers as numbers and the payload as an object."""
    found = Found(row(payload='{"a": 1}', extra={"stat_images": 2}), "tasks")
    table = SimpleNamespace(find=lambda task_id, labourers: found)
    services = SimpleNamespace(task_table=table, settings=load_settings({}))
    monkeypatch.setattr(task, "services_at", lambda data: services)
    shown = json.loads(CliRunner().invoke(sosw, ["task", "5a0d", "--json"]).stdout)
    assert (shown["state"], shown["table"], shown["payload"], shown["stat_images"]) == ("queued", "tasks", {"a": 1}, 2)
    assert shown["created_at"] == float(NOW - 5)


def test_status_shows_the_cap_in_force() -> None:
    """It may be another one than this process is configured with; while slots are missing that is all there is."""
    assert [labourer_status(Services(cap=cap), "resize").cap for cap in (2, 0)] == [2, 4]  # type: ignore[arg-type]
