"""Labourers as objects: how they are registered, and how they behave when a unit test calls them."""

from __future__ import annotations

import contextlib
import datetime
import sys
import types
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Ignore

from sosw_celery import Worker, app
from sosw_celery.config.settings import load_settings
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.errors import ConfigError, RetryLater
from sosw_celery.labourer import worker
from sosw_celery.labourer.run_context import WorkerRun
from sosw_celery.services.starts import Verdict
from sosw_celery.system.registration import register_configured, worker_class
from sosw_celery.wiring.container import Services

NAIVE = datetime.datetime.fromisoformat("1998-11-06T08:50:37")
MADE: list[str] = []


class Processor(Worker):
    """A worker of sosw: it has no name."""

    DEFAULT_CONFIG = {"init_clients": ["sns"], "width": 1}
    sns_client: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        MADE.append(str(type(self).__name__))

    def __call__(self, event: dict[str, Any]) -> None:
        """Count, find, and end as sosw's workers do."""
        self.stats["images"] += len(event["images"])
        self.result["width"] = self.config["width"]
        super().__call__(event, reset_result=False)


@pytest.fixture(autouse=True)
def _registry_restored() -> Iterator[None]:
    """Take away what a test has registered."""
    before = dict(app.tasks)
    MADE.clear()
    yield
    for name in app.tasks.keys() - before.keys():
        del app.tasks[name]


def closed(worker: Any) -> None:
    """Close the client of a worker."""
    worker.sns_client.close()


# ---- registration


def test_a_class_without_a_name_is_no_labourer_until_it_is_given_one() -> None:
    """It may be several; nothing of it is made at that time."""
    assert "Processor" not in app.tasks
    small, large = Processor.register_as("small", {"width": 2}), Processor.register_as("large")
    assert (app.tasks["small"], app.tasks["large"]) == (small, large)
    assert isinstance(small, Processor)
    assert small.request_stack is not large.request_stack
    assert MADE == []


def test_the_configuration_registers_as_code_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry with a `worker` becomes a labourer of its name."""
    entries = {"one": {"worker": f"{__name__}:Processor"}, "two": {"worker": f"{__name__}:Processor"}, "three": {}}
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Processor.__module__])
    services = Services(app, load_settings({"labourers": entries}))
    monkeypatch.setattr("sosw_celery.system.registration.settings_of", lambda _: services.settings)
    register_configured(app)
    assert {"one", "two"} <= app.tasks.keys()
    assert "three" not in app.tasks
    assert isinstance(app.tasks["two"], Processor)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no_such_module:X", "No module named 'no_such_module'"),
        ("odd_module:Absent", "Absent"),
        ("odd_module:function", "a subclass of sosw_celery.Worker"),
        ("odd_module:text", "a subclass of sosw_celery.Worker"),
    ],
)
def test_a_worker_that_is_none_is_told_at_start(monkeypatch: pytest.MonkeyPatch, path: str, problem: str) -> None:
    """The error names the key, and what the import said."""
    odd = types.ModuleType("odd_module")
    odd.function, odd.text = print, "text"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_module", odd)
    with pytest.raises(ConfigError, match=problem) as caught:
        worker_class("sosw.labourers.x.worker", path)
    assert caught.value.key == "sosw.labourers.x.worker"


def test_a_class_without_a_body_is_refused() -> None:
    """A labourer that would do nothing is a mistake."""
    with pytest.raises(TypeError, match="labourer 'idle': expected a method"):
        type("Idle", (Worker,), {"name": "idle"})


@pytest.mark.parametrize("name", ["scheduler", "sosw.dispatch", "sosw_scheduler", "worker_assistant", "celery.chord"])
def test_a_labourer_takes_no_other_tasks_place(name: str) -> None:
    """However it is made; the task that has the name stays."""
    before = app.tasks.get(name)
    with pytest.raises(ConfigError, match="name of a labourer: expected a name that no task or queue of") as refused:
        Processor.register_as(name)
    assert refused.value.value == name
    with pytest.raises(ConfigError, match="name of a labourer"):
        app.task(base=Worker, name=name)(lambda event: None)
    assert app.tasks.get(name) is before


def test_every_form_of_a_labourer_runs_when_it_is_called() -> None:
    """A function, a bound function, a class with `run` and one with `__call__`, called as in a unit test."""

    @app.task(base=Worker, name="as-function")
    def function(event: dict[str, Any]) -> int:
        return len(event)

    @app.task(base=Worker, name="as-bound-function", bind=True)
    def bound(self: Any, event: dict[str, Any]) -> int:
        self.stats["calls"] += 1
        return len(event) + int(self.stats["calls"])

    class WithRun(Worker):
        """With `run`."""

        name = "with-run"

        def run(self, event: Any = None, *args: Any, **kwargs: Any) -> int:
            """Return the length."""
            return len(event)

    assert function({"a": 1}) == 1
    assert bound({"a": 1}) == 2
    assert WithRun()({"a": 1}) == 1
    assert app.tasks["with-run"]({"a": 1}) == 1


# ---- called directly


def test_an_object_is_configured_and_has_its_clients_when_it_is_made() -> None:
    """As in sosw's unit tests: stats and results can be read after the call."""
    worker = Processor(custom_config={"width": 3})
    assert worker.sns_client.meta.region_name == "eu-west-1"
    worker({"images": ["a", "b"]})
    assert (worker.stats, worker.result) == ({"images": 2, "processor_calls": 1}, {"width": 3})
    assert worker.get_stats() == {"images": 2, "processor_calls": 1}
    closed(worker)


def test_stats_and_result_may_be_replaced() -> None:
    """What is set counts from 0 like any other."""
    worker = Processor()
    worker.stats, worker.result = {}, {"a": 1}
    worker.stats["n"] += 1
    worker.result["b"] += 1
    assert (worker.stats, worker.result) == ({"n": 1}, {"a": 1, "b": 1})
    closed(worker)


def test_a_class_without_a_name_behaves_as_one_with_a_name_when_it_is_called() -> None:
    """In a unit test of sosw's kind: nothing is posted, and a retry is RetryLater."""

    class Nameless(Worker):
        def __call__(self, event: dict[str, Any]) -> None:
            """Post, and ask for a retry."""
            self.meta_handler.post(action="resized", size=9)
            self.stats["posted"] += 1
            self.retry(countdown=4, exc=ValueError("busy"), max_retries=1)

    worker = Nameless()
    with pytest.raises(RetryLater) as later:
        worker({})
    assert (later.value.delay_s, later.value.reason, worker.stats["posted"]) == (4, "ValueError: busy", 1)


def test_marking_means_nothing_without_a_task_and_siblings_need_one() -> None:
    """So a unit test needs no server; spawning would lose work, so it is told."""
    worker = Processor()
    worker.mark_task_as_completed("any")
    worker.mark_task_as_failed()
    with pytest.raises(RuntimeError, match="only a running task"):
        worker.spawn_sibling({})
    closed(worker)


# ---- runs


def test_what_the_event_has_of_its_task_is_not_part_of_a_siblings_payload() -> None:
    """Ids that were added go, those that the payload itself has stay, and so does what the body has changed."""
    row = Task("t", "resize", greenfield=1, created_at=1, payload='{"a": 1, "job_id": "mine"}', job_id="j", attempts=2)  # type: ignore[arg-type]
    run = WorkerRun(row)
    assert run.without_ids({**run.event(), "a": 2}) == {"a": 2, "job_id": "mine"}
    assert run.without_ids({"task_id": "another", "attempts": 2}) == {"task_id": "another"}
    assert run.sibling_depth == 0


# ---- retries


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        ({"countdown": "4"}, 4.0),
        ({"countdown": datetime.timedelta(minutes=1)}, 60.0),
        ({"countdown": "Fri, 06 Nov 1998 08:50:37 GMT"}, 0.0),
        ({"eta": NAIVE}, 0.0),
        ({"eta": NAIVE, "countdown": 9}, 9.0),
        ({}, None),
    ],
)
def test_a_retry_waits_as_it_was_asked_to(wait: dict[str, Any], seconds: float | None) -> None:
    """`countdown` and `eta` are taken as `RetryLater` takes a wait; an `eta` without a time zone as Celery does."""
    with pytest.raises(RetryLater) as caught:
        Processor.register_as("one").retry(**wait)
    assert caught.value.delay_s == seconds


@pytest.mark.parametrize("wait", [{"countdown": "soon"}, {"countdown": 1e16}, {"eta": "at noon"}])
def test_a_retry_that_cannot_be_kept_is_refused_where_it_is_asked_for(wait: dict[str, Any]) -> None:
    """In one line that says what is expected; the attempt fails with it."""
    with pytest.raises(ValueError, match=r"RetryLater\.delay_s: expected seconds .*, got "):
        Processor.register_as("one").retry(**wait)


def test_a_labourer_is_one_of_our_app_alone() -> None:
    """Celery makes a function a task of every app of the program, unless it is told not to."""

    @app.task(base=Worker, name="ours-alone")
    def ours(event: dict[str, Any]) -> None:
        """Do nothing."""

    with Celery("theirs", set_as_current=False) as theirs:
        assert "celery.chain" in theirs.tasks
        assert "ours-alone" not in theirs.tasks
    assert app.tasks["ours-alone"] is ours


@pytest.mark.parametrize(
    ("verdict", "raised"), [(Verdict.START, None), (Verdict.LOST, Ignore), (Verdict.STOPPED, RetryLater)]
)
def test_a_body_begins_only_with_its_token(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, raised: type[Exception] | None
) -> None:
    """One whose slot is gone is left alone; one whose node stops is tried again elsewhere."""
    run = WorkerRun(Task("task", "count", greenfield=Decimal(1), created_at=Decimal(1), attempts=1), waits=True)
    asked: list[str] = []

    def wait(attempt: Attempt, is_stopping: Callable[[], bool]) -> Verdict:
        asked.append(attempt.holder)
        assert not is_stopping()
        return verdict

    monkeypatch.setattr(worker, "services_of", lambda _: SimpleNamespace(starts=SimpleNamespace(wait=wait)))

    class Waits(Worker):
        name = "waits"

        def __call__(self, event: dict[str, Any]) -> None:
            """Nothing."""

    task = app.tasks["waits"]
    with pytest.raises(raised) if raised else contextlib.nullcontext():
        task._await_start(run)
    assert asked == ["task/1"]


@pytest.mark.parametrize(("told", "ends"), [((False, False), False), ((True, True), False), ((False, True), True)])
def test_a_process_that_is_told_to_end_while_values_are_read_ends(
    monkeypatch: pytest.MonkeyPatch, told: tuple[bool, bool], ends: bool
) -> None:
    """What its signal raised was taken for an error of a value; one that was told before closes its attempt."""
    answers = iter(told)
    monkeypatch.setattr(worker, "terminate_handler_fired", lambda: next(answers))

    class Told(Worker):
        name = "told"

        def __call__(self, event: dict[str, Any]) -> None:
            """Nothing."""

    run = WorkerRun(Task("task", "told", greenfield=Decimal(1), created_at=Decimal(1), attempts=1))
    with pytest.raises(SystemExit) if ends else contextlib.nullcontext():
        assert app.tasks["told"].outcome_of(run, {"a": 1}).attributes() == {"result_a": 1}
