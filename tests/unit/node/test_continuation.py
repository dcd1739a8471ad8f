"""Which task a process of a pool runs after the one of its message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from sosw_celery.core.tasks.model import Attempt, Hint, Task
from sosw_celery.labourer.pool_memory import shared_numbers
from sosw_celery.labourer.run_context import RUN
from sosw_celery.node import continuation
from sosw_celery.node.continuation import LineTracer, be_at, go_on_with, goes_on
from sosw_celery.services.attempts import Run

REQUEST = {"id": "a.1", "root_id": "a.1", "argsrepr": "a/1", "timelimit": [901, None], "hostname": "node"}


def hint(task_id: str) -> Hint:
    """Return the hint of a task's first attempt."""
    return Hint(Attempt("resize", task_id, 1))


def run_of(task_id: str) -> Run:
    """Return the run of a task's first attempt."""
    return Run(Task(task_id, "resize", greenfield=Decimal(1), created_at=Decimal(1), attempts=1), slot_from=7.0)


class Pool:
    """A process of a pool: tasks that are run in it close at once and are given the next hint, if there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.next: list[str] = []
        self.during: Callable[[], None] = lambda: None
        self.traced: list[tuple[str, Any, Any]] = []
        self.taken: list[Attempt] = []
        monkeypatch.setattr(continuation, "steady", lambda: self.now)
        monkeypatch.setattr(continuation, "services_of", lambda app: None)
        monkeypatch.setattr(continuation.here, "close_and_take", lambda attempt, limit_s: self.taken.append(attempt))
        task: Any = SimpleNamespace(app=None)
        self.run = LineTracer(task, self._trace, line_s=1.0)

    def _trace(self, task_id: str, args: Any, kwargs: Any, request: Any) -> str:
        self.traced.append((task_id, args, request))
        self.during()
        if goes_on() and self.next:
            run = run_of(self.next.pop(0))
            be_at(run.attempt)
            go_on_with(run)
        return f"answer of {task_id}"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A process that is in no line before the test, nor after it."""
    yield Pool(monkeypatch)
    assert not goes_on()


def test_a_line_goes_on_while_there_is_a_next_task(pool: Pool) -> None:
    """Celery is told of the message's own task; each has a request of its own, and is on the board before it runs."""
    pool.next = ["b", "c"]
    assert pool.run("a.1", [hint("a").as_message()], {}, REQUEST) == "answer of a.1"
    assert [(task_id, args) for task_id, args, _ in pool.traced] == [
        (f"{name}.1", [hint(name).as_message()]) for name in "abc"
    ]
    request = dict(pool.traced[-1][2])
    begun = request.pop(RUN)
    assert (begun.attempt, begun.slot_from) == (hint("c").attempt, 7.0)
    own = {"id": "c.1", "root_id": "c.1", "correlation_id": "c.1", "argsrepr": "c/1", "args": pool.traced[-1][1]}
    assert request == {**REQUEST, **own}
    assert REQUEST["id"] == "a.1"
    assert pool.taken == [hint("b").attempt, hint("c").attempt]


def test_a_line_gets_no_longer_after_its_time(pool: Pool) -> None:
    """Its time counts from the message: each of these takes 0.4 of 1 s."""

    def take() -> None:
        pool.now += 0.4

    pool.next, pool.during = list("bcdef"), take
    pool.run("a.1", [], {}, REQUEST)
    assert [task_id for task_id, *_ in pool.traced] == ["a.1", "b.1", "c.1"]
    assert pool.next == ["d", "e", "f"]


def test_while_events_are_watched_each_task_has_a_message(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that Flower sees all of them; whoever begins to watch during a line sees what follows it."""
    watched = shared_numbers(1)[0]
    monkeypatch.setattr(continuation, "is_watched", watched)

    def watch() -> None:
        if len(pool.traced) == 2:
            watched.value = 1

    pool.next, pool.during = ["b", "c"], watch
    pool.run("a.1", [], {}, REQUEST)
    assert [task_id for task_id, *_ in pool.traced] == ["a.1", "b.1"]
    pool.run("c.1", [], {}, REQUEST)
    assert pool.next == ["c"]


def test_a_header_of_one_message_is_not_that_of_the_next_task(pool: Pool) -> None:
    """As the place in a trace, which belongs to the one task."""
    pool.next = ["b"]
    pool.run("a.1", [], {}, {**REQUEST, "traceparent": "00-1-1-01"})
    assert ["traceparent" in request for *_, request in pool.traced] == [True, False]


def test_what_ends_the_process_ends_the_line(pool: Pool) -> None:
    """`sys.exit` in a body comes through to the pool."""

    def leave() -> None:
        if len(pool.traced) == 2:
            raise SystemExit(3)

    pool.next, pool.during = ["b", "c"], leave
    with pytest.raises(SystemExit):
        pool.run("a.1", [], {}, REQUEST)
    assert [task_id for task_id, *_ in pool.traced] == ["a.1", "b.1"]


def test_a_run_that_was_begun_and_is_not_run_fails(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a task does after its end was told may raise."""
    failed: list[Any] = []
    gateway = SimpleNamespace(fail=lambda attempt, error, *_: failed.append((attempt, error)))
    monkeypatch.setattr(continuation, "gateway_of", lambda services, labourer_id: gateway)
    trace = pool._trace

    def raise_after(task_id: str, args: Any, kwargs: Any, request: Any) -> str:
        trace(task_id, args, kwargs, request)
        raise MemoryError

    pool.next = ["b"]
    with pytest.raises(MemoryError):
        LineTracer(SimpleNamespace(app=None), raise_after, line_s=1.0)("a.1", [], {}, REQUEST)  # type: ignore[arg-type]
    assert failed == [(hint("b").attempt, continuation.NOT_RUN)]


def test_outside_of_a_line_nothing_goes_on(pool: Pool) -> None:
    """In threads, in a main process, in tests."""
    assert not goes_on()
    be_at(hint("b").attempt)
    go_on_with(run_of("b"))
    pool.run("a.1", [], {}, REQUEST)
    assert [task_id for task_id, *_ in pool.traced] == ["a.1"]
    assert pool.taken == []


class Labourer:
    """A labourer's task as far as lines look at it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.__trace__ = "Celery's own"


@pytest.mark.parametrize(
    ("line_s", "queues", "maxtasks", "is_watched", "through_assistant", "kept"),
    [
        (1.0, ["resize"], None, True, False, True),
        (0.0, ["resize"], None, True, False, False),
        (1.0, ["resize", "count"], None, True, False, False),
        (1.0, ["resize"], 50, True, False, False),
        (1.0, ["resize"], None, False, False, False),
        (1.0, ["resize"], None, True, True, False),
    ],
    ids=[
        *("as a rule", "switched off", "two labourers", "max tasks per child", "nobody renews leases"),
        "through the assistant",
    ],
)
def test_lines_are_kept_where_nothing_counts_or_limits_messages(
    monkeypatch: pytest.MonkeyPatch,
    line_s: float,
    queues: list[str],
    maxtasks: int | None,
    is_watched: bool,
    through_assistant: bool,
    kept: bool,
) -> None:
    """Elsewhere Celery's own trace stays, and so it does for tasks that are no labourers."""
    tasks = {"resize": Labourer("resize"), "other": SimpleNamespace(__trace__="Celery's own")}
    labourer = SimpleNamespace(through_assistant=through_assistant)
    settings = SimpleNamespace(line_s=line_s, labourers={"resize": labourer}, labourer=lambda _: labourer)
    app = SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=queues)), tasks=tasks)
    monkeypatch.setattr(continuation, "app_or_default", lambda: app)
    monkeypatch.setattr(continuation, "serves_ours", lambda _: True)
    monkeypatch.setattr(continuation, "Worker", Labourer)
    monkeypatch.setattr(continuation, "services_of", lambda _: SimpleNamespace(settings=settings))
    monkeypatch.setattr(continuation, "here", SimpleNamespace(has_place=True))
    monkeypatch.setattr(continuation, "watchdog", SimpleNamespace(is_in_pool_process=is_watched))
    pool = SimpleNamespace(_target=SimpleNamespace(maxtasks=maxtasks))
    monkeypatch.setattr(continuation, "current_process", lambda: pool)
    continuation.keep_lines()
    assert isinstance(tasks["resize"].__trace__, LineTracer) is kept
    assert tasks["other"].__trace__ == "Celery's own"
