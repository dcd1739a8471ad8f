"""Health on the twin of Redis, with sources that the tests steer and clocks that they set."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import fakeredis
import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.core.health import EcoStatus, allowed
from sosw_celery.errors import ConfigError, StoreError
from sosw_celery.services import ecology as ecology_module
from sosw_celery.services.ecology import Ecology
from sosw_celery.stores.aws.metric_sources import Source
from sosw_celery.stores.redis.metric_cache import MetricCache


class World:
    """One cluster: a Redis, sources, and as many processes as a test asks for."""

    def __init__(self, **section: Any) -> None:
        metric = {
            "source": "gauge",
            "details": {"of": "db"},
            "feelings": {4: 25, 3: 50, 2: 80},
            "feeling_comparison_operator": "<=",
            "timeout_s": 0.2,
        }
        resize = {"max_simultaneous_invocations": 10, "health_metrics": {"load": metric}}
        self.settings = load_settings(
            {
                "labourers": {"resize": resize, "plain": {"max_simultaneous_invocations": 7}},
                "ecology_config": {"sources": {"gauge": self.gauge}},
                **section,
            }
        )
        self.value: float | Exception = 10.0
        self.asked: list[Mapping[str, Any]] = []
        self.hang = threading.Event()
        self.hang.set()
        self.now = 1000.0
        self.redis = fakeredis.FakeRedis()
        self.readings = MetricCache(self.redis)
        self.recovered: list[str] = []
        self.sources: Callable[[], Mapping[str, Source]] = lambda: {"gauge": self.gauge}
        self.ecology = self.process()

    def gauge(self, details: Mapping[str, Any], timeout_s: float) -> float:
        """Answer as the test says."""
        self.asked.append(details)
        self.hang.wait()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def process(self, background: Callable[[Callable[[], None]], None] = lambda work: work()) -> Ecology:
        """One more process of the cluster; what is done in the background is done at once."""
        return Ecology(
            self.settings,
            self.readings,
            lambda: self.sources(),
            recovered=self.recovered.append,
            monotonic=lambda: self.now,
            background=background,
        )

    def go_by(self, seconds: float) -> None:
        """Let time pass, for processes and for Redis' own clock."""
        self.now += seconds
        for key in self.redis.scan_iter("sosw:metric:*"):
            if self.redis.type(key) == b"hash":
                for field in ("read_at", "failed_at"):
                    if self.redis.hexists(key, field):
                        self.redis.hincrbyfloat(key, field, -seconds)

    def limit(self, labourer_id: str = "resize") -> int:
        """How many may run now, as a pass asks."""
        self.ecology.refresh([labourer_id])
        return allowed(self.settings.labourer(labourer_id).slots, self.ecology.share_of(labourer_id))

    def read(self, value: float | Exception) -> int:
        """Have the next period's reading give this, and return how many may run."""
        self.value = value
        self.go_by(60)
        return self.limit()


@pytest.fixture
def world() -> Iterator[World]:
    """A cluster with the labourer `resize`: ten slots, one metric."""
    world = World()
    yield world
    world.hang.set()


def test_a_labourer_without_metrics_has_all_its_slots(world: World) -> None:
    """And nothing is asked for it, not even Redis."""
    world.readings = None  # type: ignore[assignment]
    world.ecology = world.process()
    assert world.limit("plain") == 7
    assert world.ecology.health_of("plain").status == EcoStatus.HIGH


@pytest.mark.parametrize(("value", "limit"), [(10, 10), (40, 7), (60, 5), (90, 0)])
def test_the_cap_is_cut_by_health(world: World, value: float, limit: int) -> None:
    """All of 10 slots, three quarters, half, none: rounded down."""
    world.value = value
    assert world.limit() == limit


def test_the_worst_metric_counts() -> None:
    """Two metrics: the lower status decides, and each is told with its value."""
    common = {"source": "gauge", "feelings": {4: 25, 3: 50, 2: 80}, "feeling_comparison_operator": "<="}
    metrics = {"a": {**common, "details": {"of": 60}}, "b": {**common, "details": {"of": 10}}}
    world = World(labourers={"resize": {"max_simultaneous_invocations": 10, "health_metrics": metrics}})
    world.sources = lambda: {"gauge": lambda details, _: details["of"]}
    assert world.limit() == 5
    told = world.ecology.health_of("resize")
    assert [(one.name, one.status, one.value) for one in told.metrics] == [("a", 2, 60), ("b", 4, 10)]


def test_a_source_is_asked_once_a_period_by_the_whole_cluster(world: World) -> None:
    """Three processes that pass again and again ask once; in the next period once more."""
    processes = [world.process() for _ in range(3)]
    for _ in range(2):
        for _ in range(5):
            for one in processes:
                one.refresh()
                assert one.share_of("resize") == 1.0
            world.go_by(2)
        world.go_by(52)
    assert len(world.asked) == 2


def test_labourers_with_the_same_metric_share_its_reading() -> None:
    """They may feel differently about it."""
    common = {"source": "gauge", "details": {"of": "db"}, "feeling_comparison_operator": "<="}
    world = World(
        labourers={
            "brave": {"max_simultaneous_invocations": 10, "health_metrics": {"m": {**common, "feelings": {4: 90}}}},
            "shy": {"max_simultaneous_invocations": 10, "health_metrics": {"m": {**common, "feelings": {2: 90}}}},
        }
    )
    assert (world.limit("brave"), world.limit("shy")) == (10, 5)
    assert len(world.asked) == 1


def test_hysteresis_is_one_for_the_cluster(world: World) -> None:
    """A value at the edge changes the status once, whichever process reads it."""
    limits = []
    for value in (24, 26, 24.5, 25.5, 24, 26, 23):
        world.ecology = world.process()
        limits.append(world.read(value))
    assert limits == [10, 7, 7, 7, 7, 7, 10]


def test_nothing_new_starts_before_it_is_known_whether_the_source_answers(world: World) -> None:
    """The first reading is under way: no slots; it answers: slots, and a dispatch for them."""
    waiting: list[Callable[[], None]] = []
    world.ecology = world.process(waiting.append)
    assert world.limit() == 0
    assert world.ecology.health_of("resize").status is None
    (work,) = waiting
    work()
    assert world.recovered == ["resize"]
    assert world.limit() == 10


def test_a_pass_does_not_wait_for_a_source_that_hangs(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A hanging source costs the pass nothing, counts as failed after its time, and is not asked twice."""
    world.hang.clear()
    threads: list[threading.Thread] = []

    def background(work: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    world.ecology = world.process(background)
    assert world.limit() == 0
    threads[-1].join(5)
    assert world.limit() == 10  # the fallback: all of it
    assert "(nothing within 0.2 s); the fallback status 4 counts" in caplog.text
    for _ in range(3):
        world.go_by(11)
        assert world.limit() == 10
        threads[-1].join(5)
    assert len(threads) == 4
    assert len(world.asked) == 1
    assert "still busy with the question before" in caplog.text
    world.hang.set()


def test_the_last_reading_counts_while_the_source_fails_then_the_fallback(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Status 2 goes on for two minutes after its successor was due, with warnings; then the fallback of 4 counts."""
    assert world.read(60) == 5
    assert world.read(StoreError("gauge", "answering", "503")) == 5
    assert "gauge: answering failed (503); the last value 60 counts for 120 s more" in caplog.text
    told = world.ecology.health_of("resize").metrics[0]
    assert (told.value, told.problem, told.fallback) == (60, "gauge: answering failed (503)", False)
    world.go_by(115)
    assert world.limit() == 5
    world.go_by(10)
    assert world.limit() == 10
    assert world.ecology.health_of("resize").metrics[0].fallback
    assert world.read(60) == 5
    assert world.ecology.health_of("resize").metrics[0].problem == ""


@pytest.mark.parametrize(("fallback", "limit"), [(0, 0), (2, 5), (4, 10)])
def test_the_fallback_is_what_is_configured(fallback: int, limit: int) -> None:
    """From "hold back when blind" to "go on as if there were no metric"."""
    config = {"sources": {"gauge": number_of_nothing}, "fallback_status": fallback}
    world = World(ecology_config=config)
    assert world.read(StoreError("gauge", "answering", "away")) == limit


def number_of_nothing(details: Mapping[str, Any], timeout_s: float) -> None:
    """A source that gives no number."""


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (ZeroDivisionError("of nothing"), "ZeroDivisionError: of nothing"),
        (float("nan"), "expected a number, got nan"),
        (ConfigError("details.function", "a:b", "a function"), "details.function: expected a function"),
    ],
)
def test_whatever_a_source_does_is_one_more_way_to_fail(world: World, answer: Any, problem: str) -> None:
    """It raises, or gives no number: the fallback counts, and the problem is told."""
    assert world.read(answer) == 10
    assert problem in world.ecology.health_of("resize").metrics[0].problem


def test_sources_that_cannot_be_made_count_as_failing(world: World) -> None:
    """A source that cannot be imported does not stop the queue."""

    def broken() -> Mapping[str, Source]:
        raise ConfigError("sosw.ecology_config.sources.gauge", "a:b", "a function")

    world.sources = broken
    assert world.limit() == 10


def test_a_lost_cache_is_read_again(world: World) -> None:
    """A flushed Redis costs one more question."""
    assert world.read(60) == 5
    world.redis.flushall()
    world.go_by(2)
    assert world.limit() == 5
    assert len(world.asked) == 2


def test_after_a_long_idle_time_the_metric_is_read_before_anything_starts(world: World) -> None:
    """What was read an hour ago does not count, and neither does the fallback: the source is asked first."""
    assert world.read(10) == 10
    world.go_by(3600)
    world.value = 90
    waiting: list[Callable[[], None]] = []
    world.ecology = world.process(waiting.append)
    assert world.limit() == 0
    waiting[0]()
    world.go_by(2)
    assert world.limit() == 0
    assert world.ecology.health_of("resize").status == EcoStatus.BAD


def test_readers_that_die_do_not_stop_the_queue(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever took the turn to read never answers: after the source's time and 5 s more the fallback counts."""
    world.ecology = world.process(lambda work: None)
    for _ in range(3):
        assert world.limit() == 0
        world.go_by(2)
    assert world.limit() == 10
    assert "nobody_reads" in caplog.text


def test_a_process_that_looks_seldom_waits_each_time(world: World) -> None:
    """That it did not know an hour ago says nothing about how long it has waited now."""
    world.ecology = world.process(lambda work: None)
    assert world.limit() == 0
    world.go_by(3600)
    assert world.limit() == 0


def test_the_turn_of_a_reader_that_died_ends(world: World) -> None:
    """Another process asks then."""
    world.process(lambda work: None).refresh()
    turn = next(iter(world.redis.scan_iter("*:turn")))
    assert 5000 < world.redis.pttl(turn) <= 5200
    world.redis.delete(turn)
    assert world.limit() == 10


def test_getting_better_sends_a_dispatch_and_getting_worse_none(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Slots that were held back are used at once; each change is one line in the log."""
    caplog.set_level(logging.INFO, "sosw_celery.services.ecology")
    world.read(10)
    world.recovered.clear()
    world.read(90)
    assert world.recovered == []
    assert "labourer_id=resize status=0 was=4 load=90" in caplog.text
    world.read(40)
    assert world.recovered == ["resize"]


def test_passes_that_follow_each_other_look_once_a_second(world: World) -> None:
    """A process goes by what it saw in Redis for a second."""
    world.read(10)
    calls: list[object] = []
    world.readings.look = lambda digests: calls.append(digests)  # type: ignore[method-assign,assignment,return-value]
    for _ in range(100):
        world.limit()
    assert calls == []


def test_a_source_is_not_busy_once_it_has_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that takes another moment to end after its answer does not keep the metric from being read again."""
    answer, over = ecology_module._answer, threading.Event()

    def answer_and_linger(*args: Any) -> None:
        answer(*args)
        over.wait(10)

    monkeypatch.setattr(ecology_module, "_answer", answer_and_linger)
    try:
        assert world.read(60) == 5
        assert world.read(10) == 10
    finally:
        over.set()
