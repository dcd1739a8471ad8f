"""Where things stand, counted on the twins of the stores; health and huge queues are stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.core.health import EcoStatus
from sosw_celery.core.tasks.history import Event, Origin
from sosw_celery.core.tasks.model import JobState, Task
from sosw_celery.errors import JobNotFound, StoreError, TaskNotFound
from sosw_celery.names import QUEUES
from sosw_celery.services.durations import DurationLog
from sosw_celery.services.ecology import Ecology, Health
from sosw_celery.services.overview import COUNT_LIMIT, NotServed, Overview, TaskState, state_of
from sosw_celery.stores.dynamodb.task_table import Found
from sosw_celery.stores.redis.metric_cache import MetricCache
from sosw_celery.stores.redis.node_registry import NodeRegistry
from sosw_celery.stores.redis.slots import Usage

System = Any

NOW = Decimal("1770000000.5")
DELTA = Decimal(31_557_600)
ESSENTIALS = ["sosw_scheduler", "sosw_orchestrator", "sosw_scavenger", "sosw_worker_assistant"]
METRIC = {
    "source": "callable",
    "details": {"function": "time:time"},
    "feelings": {4: 1},
    "feeling_comparison_operator": "<=",
}


def overview_of(system: System, **stand_ins: Any) -> Overview:
    """Return an overview of the system, with stand-ins for some of what it looks at."""

    def meta_table() -> Any:
        pytest.fail("nobody asks for a history that is not kept")

    parts: dict[str, Any] = {
        "settings": system.settings,
        "task_table": system.task_table,
        "job_table": system.job_table,
        "slots": system.slots,
        "nodes": NodeRegistry(system.redis, prefix="sosw"),
        "ecology": Ecology(system.settings, MetricCache(system.redis), dict, recovered=lambda _: None),
        "durations": DurationLog(system.task_table, looked_at=50),
        "meta_table": meta_table,
        "clock": lambda: system.now,
    }
    return Overview(**parts | stand_ins)


def node(system: System, name: str, capacity: int, *queues: str, **note: Any) -> None:
    """Have a worker node that gives signs of life."""
    NodeRegistry(system.redis, prefix="sosw").put(name, {"capacity": capacity, "queues": queues, **note})


def counts(queued: int, waiting: int, asked: list[int] | None = None) -> Any:
    """Return a table of tasks that counts so many; what it was to count at most is kept."""

    def counted(number: int) -> Callable[..., int]:
        def count(labourer_id: str, *, at_most: int, **_: Any) -> int:
            if asked is not None:
                asked.append(at_most)
            return number

        return count

    return SimpleNamespace(count_queued=counted(queued), count_waiting=counted(waiting))


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
    assert state_of(found, NOW).value == state


def test_a_labourers_slots_and_tasks_are_counted(make_system: Callable[..., System]) -> None:
    """Two run, one is handed out, one more is queued, one waits for its retry: handed out ones are queued as well."""
    system = make_system(labourers={"resize": {"max_simultaneous_invocations": 3, "rate_limit": "100/s"}})
    system.queue(5)
    system.orchestrator.dispatch("resize")
    first, *_ = system.begin_all()
    system.attempts.fail(first.attempt, "broken")  # its slot goes to the next task
    (found,) = overview_of(system).system(0).labourers
    assert (found.labourer_id, found.slots, found.cap, found.limit) == ("resize", "ready", 3, 3)
    assert (found.running, found.handed_out, found.queued, found.waiting) == (2, 1, 2, 1)
    assert found.health is None


def test_a_huge_queue_is_not_counted_to_its_end(system: System) -> None:
    """Counting stops at the limit; an index page too many changes nothing; when it will be done cannot be told."""
    asked: list[int] = []
    durations = SimpleNamespace(measured=lambda labourer: replace(labourer, average_duration_s=4.0))
    overview = overview_of(system, task_table=counts(COUNT_LIMIT + 2345, 7, asked), durations=durations)
    (found,) = overview.system(0).labourers
    assert (found.queued, found.waiting, found.eta_s) == (COUNT_LIMIT, 7, None)
    assert asked == [COUNT_LIMIT, COUNT_LIMIT]


@pytest.mark.parametrize(
    ("health", "status", "limit", "eta_s"),
    [
        (None, None, 4, 32.0),
        (Health(EcoStatus.HIGH, 1.0), 4, 4, 32.0),
        (Health(EcoStatus.MODERATE, 0.5), 2, 2, 62.0),
        (Health(EcoStatus.BAD, 0.0), 0, 0, None),
        (Health(None, 0.0), None, 0, None),
    ],
)
def test_health_tells_how_many_slots_are_left_and_when_a_queue_will_be_done(
    system: System, health: Health | None, status: int | None, limit: int, eta_s: float | None
) -> None:
    """23 tasks queued, 7 waiting, 3 running, 4 s each: on the slots that health leaves."""
    own = {"max_simultaneous_invocations": 4, "health_metrics": {"load": METRIC} if health else {}}
    ran = [row(greenfield=NOW + DELTA, completed_at=NOW + 4, closed_at=NOW + 5)]
    closed = SimpleNamespace(recently_closed=lambda *_, status, limit: ran[:status], delta=DELTA)
    overview = overview_of(
        system,
        settings=load_settings({"labourers": {"resize": own}}),
        task_table=counts(23, 7),
        slots=SimpleNamespace(look=lambda labourer_id: Usage(1, 3, "ready", cap=4)),
        ecology=SimpleNamespace(
            health_of=lambda labourer_id: health,
            share_of=lambda labourer_id: 1.0 if health is None else health.coefficient,
        ),
        durations=DurationLog(closed, looked_at=50),  # type: ignore[arg-type]
    )
    (found,) = overview.system(0).labourers
    assert (found.health, found.limit, found.cap, found.eta_s) == (status, limit, 4, eta_s)
    assert (found.average_duration_s, found.max_duration_s) == (4.0, 4.0)


def test_the_cap_is_that_in_force(system: System) -> None:
    """It may be another one than this process is configured with; while slots are missing that is all there is."""
    settings = load_settings({"labourers": {"resize": {"max_simultaneous_invocations": 4}}})
    overview = overview_of(system, settings=settings)
    assert [(found.slots, found.cap) for found in overview.system(0).labourers] == [("missing", 4)]
    system.orchestrator.dispatch("resize")
    assert [(found.slots, found.cap) for found in overview.system(0).labourers] == [("ready", 2)]


def test_workers_are_the_processes_of_nodes_that_take_messages(system: System) -> None:
    """Not those of a node that is about to end, nor those of one that serves others."""
    node(system, "a@h", 4, "resize", "other")
    node(system, "b@h", 2, "resize")
    node(system, "c@h", 8, "resize", is_stopping=True)
    node(system, "d@h", 16, "other")
    (found,) = overview_of(system).system(0).labourers
    assert (found.nodes, found.processes) == (2, 6)


def test_what_nobody_does_is_the_systems_own_work_too(system: System) -> None:
    """Each queue without a node, and labourers that are not configured: nobody could serve those."""
    overview = overview_of(system)
    everything = NotServed(ESSENTIALS, ["resize"], ["resise"])
    assert overview.not_served(["resise", "resize", "resise"]) == everything
    node(system, "a@h", 4, "resize", "sosw_scheduler")
    assert overview.not_served(["resise", "resize"]) == NotServed(ESSENTIALS[1:], [], ["resise"])
    node(system, "b@h", 4, *QUEUES.values())
    assert not overview.not_served(["resize"])
    assert overview.not_served(["resise"])


def test_open_jobs_are_those_that_can_be_read(system: System) -> None:
    """One that was broken by hand is in nobody's way; what has ended is not among them; no more than asked for."""
    for name in ("a", "b", "c", "d"):
        system.job_of(name, 1)
        system.now += 1
    system.job_table.accept("new", {"lambda_name": "resize"}, "resize", system.now, date(2026, 11, 23))
    system.job_table.client.update_item(
        TableName=system.job_table.tables.jobs,
        Key={"job_id": {"S": "d"}},
        UpdateExpression="REMOVE today",
    )
    system.queue(1, job_id="a")
    system.orchestrator.dispatch("resize")
    (run,) = system.begin_all()
    system.attempts.complete(run.attempt, run.outcome())
    system.scavenger.sweep("resize", thorough=True)
    overview = overview_of(system)
    assert overview.job("a").state is JobState.COMPLETED
    assert [job.job_id for job in overview.open_jobs(10)] == ["new", "b", "c"]
    assert [job.job_id for job in overview.open_jobs(2)] == ["new", "b"]
    with pytest.raises(JobNotFound):
        overview.job("e")


def test_the_whole_system_at_one_look(make_system: Callable[..., System]) -> None:
    """Labourers, open jobs and scheduled ones; who waits for a labourer that is not configured is found by its jobs."""
    system = make_system(scheduled_jobs={"nightly": {"schedule": 86_400, "job": {"lambda_name": "resize"}}})
    tick = "nightly@2026-11-23T00:00:00Z"
    system.job_of(tick, 1)
    system.now += 1
    system.job_of("renamed", 1, labourer_id="resise")
    found = overview_of(system).system(1)
    assert [labourer.labourer_id for labourer in found.labourers] == ["resize"]
    assert [job.job_id for job in found.jobs] == [tick]
    assert found.not_served == NotServed(ESSENTIALS, ["resize"], ["resise"])
    (nightly,) = found.ticks
    planned_at = datetime(2026, 11, 23, tzinfo=timezone.utc)
    assert (nightly.job_id, nightly.state, nightly.planned_at) == (tick, "scheduled", planned_at)
    assert nightly.next_at == planned_at + timedelta(days=1)
    assert overview_of(system).system(0).jobs == []


def test_a_task_is_found_with_the_time_of_its_claim(system: System) -> None:
    """While it is queued there is none: its greenfield is its place."""
    system.queue(1, payload='{"pages": 1}')
    overview = overview_of(system)
    queued = overview.task("task-001")
    assert (queued.table, queued.state, queued.claimed_at) == ("tasks", TaskState.QUEUED, None)
    system.orchestrator.dispatch("resize")
    system.now += 3
    (run,) = system.begin_all()
    running = overview.task("task-001")
    assert (running.table, running.state, running.claimed_at) == ("tasks", TaskState.RUNNING, system.now)
    assert (running.row.attempts, running.row.payload) == (1, '{"pages": 1}')
    system.attempts.fail(run.attempt, "broken")
    assert (overview.task("task-001").table, overview.task("task-001").state) == ("retry", TaskState.WAITING)
    with pytest.raises(TaskNotFound):
        overview.task("task-002")


EVENT = Event("task-001", NOW, "created", Origin("scheduler", "m-1", "node-1"))


def test_a_tasks_history_comes_with_it_where_one_is_kept(make_system: Callable[..., System]) -> None:
    """One that is kept and empty is not the same as none."""
    system = make_system(meta_handler_config={})
    system.queue(1)
    kept = {"task-001": [EVENT]}
    table = SimpleNamespace(history=lambda task_id: kept.get(task_id, []))
    overview = overview_of(system, meta_table=lambda: table)
    assert overview.task("task-001").history == [EVENT]
    kept.clear()
    assert overview.task("task-001").history == []


@pytest.mark.parametrize("config", [None, {"write_meta_to_ddb": False}])
def test_without_a_history_its_table_is_not_even_asked(
    make_system: Callable[..., System], config: dict[str, Any] | None
) -> None:
    """It need not be there."""
    system = make_system(meta_handler_config=config)
    system.queue(1)
    found = overview_of(system).task("task-001")
    assert (found.history, found.history_problem) == (None, "")


def test_a_history_that_cannot_be_read_does_not_hide_the_task(make_system: Callable[..., System]) -> None:
    """All else is told, and why there is no history."""

    def refuse(task_id: str) -> list[Event]:
        raise StoreError("dynamodb", "Query", "ResourceNotFoundException")

    system = make_system(meta_handler_config={})
    system.queue(1)
    found = overview_of(system, meta_table=lambda: SimpleNamespace(history=refuse)).task("task-001")
    assert (found.state, found.history) == (TaskState.QUEUED, None)
    assert found.history_problem == "dynamodb: Query failed (ResourceNotFoundException)"
