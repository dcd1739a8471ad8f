"""What runs have to say, as lines and as a table. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tests.faults.checker import Promise
from tests.faults.idling import Idling
from tests.faults.run import Outcome

__all__ = ["filled_in", "line_of", "markdown", "summary_line"]

#: What the table stands between in a page.
BEGINNING, END = "<!-- fault runs -->\n", "<!-- end of fault runs -->\n"

COLUMNS = (
    *("fault", "alone", "mixed", "lost", "closed twice", "over the cap", "other"),
    *("next start, median", "worst", "full use, median", "worst"),
)


def line_of(outcome: Outcome) -> str:
    """Return the lines that tell of one run."""
    plan, verdict = outcome.plan, outcome.verdict
    words = [f"seed {plan.seed}: {plan.title}; {plan.tasks:,} tasks, {outcome.seconds:.0f} s"]
    most = ", ".join(f"{name} {count}" for name, count in sorted(verdict.most_at_once.items()))
    words.append(f"most at once {most}")
    words += [_idling(idling) for idling in verdict.idling if idling.looks]
    for recovery in verdict.recoveries:
        words.append(f"{recovery.kind}: next start {_s(recovery.first_s)}, full use {_s(recovery.full_s)}")
    if verdict.after_wake_s is not None:
        words.append(f"ran on {verdict.after_wake_s:.2f} s after waking")
    words += [f"{fault.kind}: {fault.note}" for fault in outcome.faults if fault.note]
    if outcome.crashes:
        words.append(f"{outcome.crashes} processes ended by themselves")
    words.append("kept" if outcome.kept else f"BROKEN, see {outcome.directory}")
    lines = ["; ".join(words), *(f"    {finding}" for finding in verdict.findings)]
    if outcome.trouble:
        lines.append(f"    the run itself: {outcome.trouble}")
    return "\n".join(lines)


def summary_line(outcomes: Sequence[Outcome]) -> str:
    """Return what all runs come to."""
    tasks = sum(outcome.plan.tasks for outcome in outcomes)
    broken = {promise: _broken(outcomes, promise) for promise in Promise}
    words = [f"{len(outcomes)} runs, {tasks:,} tasks, {sum(o.verdict.starts for o in outcomes):,} starts"]
    words += [f"{promise.value}: broken in {count}" for promise, count in broken.items()]
    after_wake = [o.verdict.after_wake_s for o in outcomes if o.verdict.after_wake_s is not None]
    if after_wake:
        words.append(f"bodies of a woken node ran on for at most {max(after_wake):.2f} s ({len(after_wake)} runs)")
    return "; ".join(words)


def markdown(outcomes: Sequence[Outcome], how: str) -> str:
    """Return a table of the faults, with a sentence on what was run.

    Parameters:
        how: The command that repeats it.
    """
    rows = [" | ".join(cells) for cells in (COLUMNS, ("---",) * len(COLUMNS), *_rows(outcomes))]
    table = "\n".join(f"| {row} |" for row in rows)
    return f"`{how}`: {summary_line(outcomes)}.\n\n{table}\n"


def filled_in(page: str, table: str) -> str:
    """Return a page with the table between its two comments in the place of what was there; without them, the table."""
    before, beginning, rest = page.partition(BEGINNING)
    _, end, after = rest.partition(END)
    return f"{before}{beginning}\n{table}\n{end}{after}" if beginning and end else table


def _rows(outcomes: Sequence[Outcome]) -> Sequence[Sequence[str]]:
    by_kind: Mapping[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        for kind in {fault.kind for fault in outcome.faults if fault.happened}:
            by_kind[kind].append(outcome)
    return [_row(kind, of_kind) for kind, of_kind in sorted(by_kind.items(), key=lambda entry: entry[0].lower())]


def _row(kind: str, outcomes: Sequence[Outcome]) -> Sequence[str]:
    alone = [outcome for outcome in outcomes if len(outcome.plan.faults) == 1]
    others = set(Promise) - {Promise.LOST, Promise.CLOSED, Promise.CAP}
    # With others at the same time a recovery is not this fault's own.
    recoveries = [recovery for outcome in alone for recovery in outcome.verdict.recoveries]
    first = [recovery.first_s for recovery in recoveries if recovery.first_s is not None]
    full = [recovery.full_s for recovery in recoveries if recovery.full_s is not None]
    return (
        kind,
        str(len(alone)),
        str(len(outcomes) - len(alone)),
        *(str(_broken(outcomes, promise)) for promise in (Promise.LOST, Promise.CLOSED, Promise.CAP)),
        str(sum(bool(outcome.verdict.broken & others) for outcome in outcomes)),
        *_median_and_worst(first),
        *_median_and_worst(full),
    )


def _median_and_worst(seconds: Sequence[float]) -> tuple[str, str]:
    if not seconds:
        return "", ""
    return f"{statistics.median(seconds):.1f} s", f"{max(seconds):.1f} s"


def _broken(outcomes: Sequence[Outcome], promise: Promise) -> int:
    return sum(promise in outcome.verdict.broken for outcome in outcomes)


def _idling(idling: Idling) -> str:
    words = f"{idling.labourer_id} idle in {_share(idling.idle)} of {idling.looks} looks"
    return f"{words}, {_share(idling.lapsed)} of {idling.leases} leases ran out"


def _share(share: float | None) -> str:
    return "?" if share is None else f"{share:.0%}"


def _s(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.1f} s"
