"""The proof: what the closed table holds, against what chunking gives and what a plain loop finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sosw_celery import clock
from sosw_celery.cli.demo.census.jobs import totals_of
from sosw_celery.config.settings import greenfield_delta
from sosw_celery.core.exact import EXACT
from sosw_celery.core.jobs.plan import task_id
from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.model import JobSummary, Task
from sosw_celery.services.preview import Chunker

if TYPE_CHECKING:
    from sosw_celery.wiring.container import Services

__all__ = ["Check", "Outcome", "checks_of", "most_at_once", "outcome_of"]


@dataclass(frozen=True)
class Check:
    """One sentence about the outcome, whether it holds, and the numbers that it rests on."""

    sentence: str
    holds: bool
    found: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one labourer's job.

    Parameters:
        rows: Its rows in the closed table, dead ones included.
        left: Rows of the labourer that stand in the tasks table or the retry table all the same.
        cap: Its slots.
        most_at_once: Attempts that ran at the fullest moment, by the rows.
        totals: What the labourer found, added up from the rows.
    """

    labourer_id: str
    job: Mapping[str, Any]
    summary: JobSummary
    rows: Sequence[Task]
    left: int
    cap: int
    most_at_once: int
    totals: Mapping[str, Any]

    @property
    def failed(self) -> int:
        """Attempts that failed."""
        return sum(row.failed_attempts for row in self.rows)

    @property
    def retried(self) -> int:
        """Attempts after the first one of a task."""
        return sum(row.attempts - 1 for row in self.rows)

    @property
    def seconds(self) -> float:
        """Seconds from the submit to the last completion."""
        ends = [row.completed_at for row in self.rows if row.completed_at is not None]
        return float(EXACT.subtract(max(ends), self.summary.accepted_at or max(ends))) if ends else 0.0


def outcome_of(services: Services, job: Mapping[str, Any], job_id: str) -> Outcome:
    """Read what became of a job; the closed table is read from end to end."""
    labourer_id, table, now = job["lambda_name"], services.task_table, clock.now()
    rows = [row for status in (1, 0) for row in table.closed(labourer_id, status=status)]
    left = (
        table.count_queued(labourer_id, now=now)
        + table.count_running(labourer_id, now=now)
        + table.count_waiting(labourer_id)
    )
    return Outcome(
        labourer_id=labourer_id,
        job=job,
        summary=services.job_table.get(job_id),
        rows=rows,
        left=left,
        cap=services.settings.labourer(labourer_id).slots,
        most_at_once=most_at_once(rows, greenfield_delta(services.settings)),
        totals=totals_of((labourer_id, row.extra) for row in rows).get(labourer_id, {}),
    )


def checks_of(
    services: Services,
    outcomes: Sequence[Outcome],
    plain: Mapping[str, Mapping[str, Any]],
    most_slots_seen: Mapping[str, int],
) -> list[Check]:
    """Return every sentence that the demo stands for, checked.

    Parameters:
        plain: The totals that a plain loop over the same files finds.
        most_slots_seen: Labourer -> the most slots in use that anybody has seen.
    """
    return [
        _rows_are_those_of_chunking(services, outcomes),
        _closed_once(outcomes),
        _nothing_left(outcomes),
        _totals_agree(outcomes, plain),
        _cap_held(outcomes, most_slots_seen),
    ]


def most_at_once(rows: Iterable[Task], delta: Decimal) -> int:
    """Return how many attempts ran at the fullest moment, by the times of claim and completion on their rows."""
    changes = []
    for row in rows:
        if row.completed_at is not None:
            changes += [(greenfield.claimed_at(row.greenfield, delta), 1), (row.completed_at, -1)]
    running = most = 0
    # At the same microsecond an end counts before a start.
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def _rows_are_those_of_chunking(services: Services, outcomes: Sequence[Outcome]) -> Check:
    expected: dict[str, str] = {}
    for outcome in outcomes:
        _, texts = Chunker(services.settings).checked(outcome.job)
        expected |= {task_id(outcome.summary.job_id, number): text for number, text in enumerate(texts)}
    found = {row.task_id: row.payload for outcome in outcomes for row in outcome.rows}
    return Check(
        "The closed tasks are those that chunking gives, payload by payload",
        expected == found,
        f"{len(expected.items() & found.items()):,} of {len(expected):,}"
        + (f", and {extra:,} others" if (extra := len(found.keys() - expected.keys())) else ""),
    )


def _closed_once(outcomes: Sequence[Outcome]) -> Check:
    counted = sum(outcome.summary.completed for outcome in outcomes)
    dead = sum(outcome.summary.dead for outcome in outcomes)
    rows = [row for outcome in outcomes for row in outcome.rows]
    return Check(
        "Every task was closed exactly once, as completed",
        counted == len(rows) == len({row.task_id for row in rows}) and not dead,
        f"{len(rows):,} rows, {counted:,} closes counted, {dead:,} dead",
    )


def _nothing_left(outcomes: Sequence[Outcome]) -> Check:
    left = sum(outcome.left for outcome in outcomes)
    return Check("Nothing is left in the queue or waiting for a retry", not left, f"{left:,} rows")


def _totals_agree(outcomes: Sequence[Outcome], plain: Mapping[str, Mapping[str, Any]]) -> Check:
    found = {outcome.labourer_id: dict(outcome.totals) for outcome in outcomes}
    different = [
        f"{labourer_id}.{name}: {totals.get(name)} instead of {value}"
        for labourer_id, expected in plain.items()
        for totals in [found.get(labourer_id, {})]
        for name, value in expected.items()
        if totals.get(name) != value
    ]
    modules = ", ".join(f"{labourer_id} {totals['modules']:,} modules" for labourer_id, totals in plain.items())
    return Check(
        "The totals are those of a plain loop over the same files",
        found == plain,
        "; ".join(different)[:200] or modules,
    )


def _cap_held(outcomes: Sequence[Outcome], most_slots_seen: Mapping[str, int]) -> Check:
    most = {outcome: max(outcome.most_at_once, most_slots_seen[outcome.labourer_id]) for outcome in outcomes}
    return Check(
        "Never more at once than the cap",
        all(number <= outcome.cap for outcome, number in most.items()),
        ", ".join(f"{outcome.labourer_id} {number} of {outcome.cap}" for outcome, number in most.items()),
    )
