"""The parts of the demo: what it sees, what it checks, what it shows."""

from __future__ import annotations

import io
import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sosw_celery.cli.demo import check, show
from sosw_celery.cli.demo.census.jobs import CHUNKABLE_ATTRS
from sosw_celery.cli.demo.check import Check, Outcome, checks_of, most_at_once
from sosw_celery.cli.demo.observe import RATE_WINDOW_S, Observer, Sight
from sosw_celery.config.settings import load_settings
from sosw_celery.core.jobs.plan import task_id
from sosw_celery.core.tasks.model import JobState, JobSummary, Task
from sosw_celery.stores.redis.slots import Usage

DELTA = Decimal(31_557_600)
NOW = Decimal(1_770_000_000)
JOB = {"lambda_name": "code_census", "isolate_packages": True, "packages": ["json", "email"]}
TOTALS: dict[str, Any] = {"modules": 4, "lines": 90, "longest_function": None}


def row(number: int, start: float = 0, end: float = 1, **fields: Any) -> Task:
    """Return a closed row of the demo's job."""
    package = JOB["packages"][number]
    values: dict[str, Any] = {
        "task_id": task_id("job", number),
        "labourer_id": "code_census",
        "payload": f'{{"isolate_packages": true, "packages": ["{package}"]}}',
        "greenfield": NOW + DELTA + Decimal(str(start)),
        "created_at": NOW,
        "attempts": 1,
        "completed_at": NOW + Decimal(str(end)),
        "extra": {"stat_modules": 2, "stat_lines": 45},
    }
    return Task(**(values | fields))


def outcome(rows: list[Task] | None = None, **fields: Any) -> Outcome:
    """Return a good outcome of the demo's job, or one with these differences."""
    rows = [row(0), row(1, 1, 2)] if rows is None else rows
    summary = JobSummary("job", "code_census", JobState.COMPLETED, tasks=2, written=2, completed=2, accepted_at=NOW - 1)
    values: dict[str, Any] = {
        "labourer_id": "code_census",
        "job": JOB,
        "summary": summary,
        "rows": rows,
        "left": 0,
        "cap": 1,
        "most_at_once": most_at_once(rows, DELTA),
        "totals": TOTALS,
    }
    return Outcome(**(values | fields))


def checks(found: Outcome, slots_seen: int = 1) -> list[bool]:
    """Return which checks hold for an outcome."""
    settings = load_settings({"labourers": {"code_census": {}}, "job_schema": {"chunkable_attrs": CHUNKABLE_ATTRS}})
    services: Any = SimpleNamespace(settings=settings)
    made = checks_of(services, [found], {"code_census": TOTALS}, {"code_census": slots_seen})
    return [one.holds for one in made]


def test_a_good_outcome_holds() -> None:
    """Rows, closes, queue, totals and cap: all as they should be."""
    assert checks(outcome()) == [True] * 5


WRONG: dict[str, tuple[Callable[[], list[bool]], list[bool]]] = {
    "a row is missing": (lambda: checks(outcome([row(0)])), [False, False, True, True, True]),
    "a payload is another": (
        lambda: checks(outcome([row(0), row(1, 1, 2, payload="{}")])),
        [False, True, True, True, True],
    ),
    "a close was counted twice": (
        lambda: checks(outcome(summary=replace(outcome().summary, completed=3))),
        [True, False, True, True, True],
    ),
    "a task is dead": (
        lambda: checks(outcome(summary=replace(outcome().summary, completed=1, dead=1))),
        [True, False, True, True, True],
    ),
    "a row was left over": (lambda: checks(outcome(left=1)), [True, True, False, True, True]),
    "a line was not counted": (
        lambda: checks(outcome(totals={**TOTALS, "lines": 89})),
        [True, True, True, False, True],
    ),
    "two ran at once": (
        lambda: checks(outcome([row(0, 0, 1), row(1, 0.5, 2)])),
        [True, True, True, True, False],
    ),
    "two slots were seen": (lambda: checks(outcome(), slots_seen=2), [True, True, True, True, False]),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_thing_that_can_be_wrong_fails_its_check(case: str) -> None:
    """The demo would not say that all is well if it were not."""
    found, expected = WRONG[case]
    assert found() == expected


def test_a_difference_in_the_totals_is_named() -> None:
    """Whoever sees the check fail sees what differs, not only that something does."""
    found = check._totals_agree([outcome(totals={**TOTALS, "lines": 89})], {"code_census": TOTALS})
    assert found.found == "code_census.lines: 89 instead of 90"


@pytest.mark.parametrize(
    ("spans", "most"),
    [([], 0), ([(0, 1)], 1), ([(0, 1), (1, 2)], 1), ([(0, 3), (1, 2), (1.5, 4)], 3), ([(0, 9), (1, 2), (3, 4)], 2)],
)
def test_the_fullest_moment_is_found_from_the_rows(spans: list[tuple[float, float]], most: int) -> None:
    """An attempt that ends in the microsecond in which another starts does not overlap it."""
    assert most_at_once([row(0, start, end) for start, end in spans], DELTA) == most


def test_the_demos_levels_are_those_of_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration cannot import them, so it repeats them."""
    assert config_section(monkeypatch)["job_schema"]["chunkable_attrs"] == CHUNKABLE_ATTRS


def test_the_demos_configuration_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two labourers with different caps."""
    settings = load_settings(config_section(monkeypatch))
    caps = {name: settings.labourer(name).slots for name in settings.labourers}
    assert caps == {"code_census": 3, "import_census": 2}


def config_section(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the `sosw` section of the demo's configuration."""
    monkeypatch.setenv("SOSW_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("SOSW_DYNAMODB_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("SOSW_QUEUE_BUCKET", "file:///tmp/queue")
    section: dict[str, Any] = runpy.run_module("sosw_celery.cli.demo.config")["sosw"]
    return section


class World:
    """What an observer can see, as a test sets it."""

    def __init__(self) -> None:
        self.summary = JobSummary("job", "code_census", JobState.SCHEDULED, tasks=10, written=10)
        self.usage = Usage(1, 2, "ready")
        self.claimed: list[Task] = []
        self.waiting: list[Task] = []
        self.queued = 7
        self.time = 0.0
        table = SimpleNamespace(
            running=lambda labourer_id, now: iter(self.claimed),
            due=lambda labourer_id, now, limit: (self.waiting, None),
            count_queued=lambda labourer_id, now: self.queued,
        )
        services: Any = SimpleNamespace(
            task_table=table,
            slots=SimpleNamespace(look=lambda labourer_id: self.usage),
            job_table=SimpleNamespace(get=lambda job_id: self.summary),
            settings=load_settings({"labourers": {"code_census": {"max_simultaneous_invocations": 3}}}),
        )
        self.observer = Observer(services, {"code_census": "job"}, monotonic=lambda: self.time)

    def look(self) -> Sight:
        """Return what the observer sees now."""
        return self.observer.look()[0]


def test_completed_tasks_count_before_they_are_archived() -> None:
    """Progress is smooth, though the job's counters move only with each archiving sweep."""
    world = World()
    world.summary = replace(world.summary, completed=4)
    world.claimed = [row(0), row(1, completed_at=None)]
    sight = world.look()
    assert (sight.done, sight.running, sight.handed_out, sight.share) == (5, 2, 1, 0.5)


def test_done_never_goes_back() -> None:
    """Rows that are archived while a look reads are in neither of its counts: what was seen done stays done."""
    world = World()
    world.claimed = [row(0), row(1)]
    assert world.look().done == 2
    world.claimed = []  # archived since the job's counters were read
    sight = world.look()
    assert (sight.done, sight.rate) == (2, 0.0)


def test_rate_and_time_left_come_from_the_last_seconds() -> None:
    """What happened long ago does not count."""
    world = World()
    for second in range(9):
        world.time = float(second)
        world.summary = replace(world.summary, completed=max(0, second - 4))
        sight = world.look()
    assert sight.rate == pytest.approx(4 / RATE_WINDOW_S)
    assert sight.eta_s == pytest.approx(6 / sight.rate)


def test_failures_are_counted_once_wherever_they_are_seen() -> None:
    """A failed attempt is seen in the retry table and again when its task runs; it is one all the same."""
    world = World()
    world.waiting = [row(0, completed_at=None, failed_attempts=1)]
    assert (world.look().failed, world.look().retried) == (1, 0)
    world.waiting, world.claimed = [], [row(0, completed_at=None, attempts=2, failed_attempts=1)]
    assert (world.look().failed, world.look().retried) == (1, 1)
    world.claimed = []
    assert (world.look().failed, world.look().retried) == (1, 1)


def test_the_most_slots_ever_seen_are_remembered() -> None:
    """Slots that are handed out count like those in which a task runs."""
    world = World()
    world.look()
    world.usage = Usage(0, 1, "ready")
    world.look()
    assert world.observer.most_slots_seen == {"code_census": 3}


SIGHT = Sight(
    labourer_id="code_census",
    tasks=1535,
    queued=1200,
    running=3,
    handed_out=0,
    cap=3,
    waiting=0,
    done=335,
    dead=0,
    failed=2,
    retried=1,
    rate=41.7,
    eta_s=28.9,
    has_ended=False,
)


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def console(request: pytest.FixtureRequest) -> Console:
    """A console of 100 columns that remembers what was printed."""
    return Console(file=io.StringIO(), force_terminal=request.param, width=100, highlight=False)


def printed(console: Console) -> str:
    """Return what was printed."""
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_progress_shows_every_number(console: Console) -> None:
    """Queued, running of the cap, done, failed, retried, rate and time left: on a terminal and in a pipe."""
    with show.Screen(console) as screen:
        screen.event("Redis and DynamoDB are up")
        screen.progress([SIGHT])
    text = printed(console)
    assert "Redis and DynamoDB are up" in text
    for shown in ("code_census", "1,200", "3/3", "335/1,535", "42/s", "29 s"):
        assert shown in text


@pytest.mark.parametrize("width", [72, 80, 100, 140])
def test_no_number_is_cut_off_on_a_narrow_terminal(width: int) -> None:
    """The bar gives way to the numbers, and nothing wraps."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, color_system=None)
    with show.Screen(console) as screen:
        screen.progress([SIGHT, replace(SIGHT, labourer_id="import_census", has_ended=True)])
    text = printed(console)
    assert "\u2026" not in text
    assert all(shown in text for shown in ("code_census", "import_census", "1,200", "335/1,535", "42/s", "29 s"))
    assert "\u2501" in text or width < 80


def test_a_pipe_gets_a_line_every_few_seconds_only() -> None:
    """A log of the demo stays readable."""
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    with show.Screen(console) as screen:
        for _ in range(50):
            screen.progress([SIGHT])
    assert len(printed(console).splitlines()) == 1


def test_before_it_is_chunked_a_job_has_no_number_of_tasks(console: Console) -> None:
    """The first seconds of the demo do not divide by zero and claim nothing."""
    with show.Screen(console) as screen:
        screen.progress([replace(SIGHT, tasks=None, done=0, eta_s=None)])
    assert "0/?" in printed(console)


@pytest.mark.parametrize("width", [72, 80])
def test_a_narrow_terminal_breaks_lines_between_words_and_cuts_no_column(width: int) -> None:
    """Every word of what happened, of the outcome, of what was found and of the proof is read whole."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, color_system=None)
    totals = {
        **{"modules": 1100, "lines": 454_697, "functions": 27_651, "classes": 5_175, "docstrings": 9_270},
        "longest_function": {"name": "sosw_celery.a_package_of_some_length.a_module.a_function", "lines": 386},
    }
    event = "the leases have ended: the lost attempts are noticed, their tasks are tried again, as often as they may be"
    with show.Screen(console) as screen:
        screen.event(event)
    found = outcome(cap=3, totals=totals)
    show.show_outcomes(console, [found])
    show.show_found(console, [found])
    sentence = "The totals are those of a plain loop over the same files"
    show.show_checks(console, [Check(sentence, True, "code_census 1,100 modules, import_census 1,100 modules")], 41)
    text = re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "", printed(console))
    words = set(text.split())
    assert {
        *event.split(),
        *sentence.split(),
        "docstrings",
        "sosw_celery.a_package_of_some_length.a_module.a_function,",
    } - {"files"} <= words
    assert "rate" in words
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= width


def test_the_end_shows_outcome_and_proof(console: Console) -> None:
    """Each check in a line with its numbers, a failed one unmistakably."""
    show.show_outcomes(console, [outcome([row(0), row(1, 1, 2, attempts=2, failed_attempts=1)])])
    show.show_checks(
        console, [Check("Nothing is left", True, "0 rows"), Check("The totals agree", False, "1 of 2")], 41
    )
    text = printed(console)
    assert "1 of 1" in text
    assert "Nothing is left" in text
    assert "WRONG" in text
    assert "It failed" in text
