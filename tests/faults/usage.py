"""How many slots a labourer used at each instant, and how long after a fault it used them as before. Pure.

Recovery is measured on the number of bodies that run, averaged over windows: a body ends and the next one begins some
milliseconds later, so an instant tells nothing. Usual is the median of the windows before the first fault. A dip is a
window after a fault with less than `DIP` of that; it is over with the first window of `FULL_WINDOW_S` that reaches it
again. What happens after the last queued task was started tells nothing of slots, nor what happens after a next fault.
"""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.faults.evidence import Evidence, FaultRecord

__all__ = ["Recovery", "Usage", "low_for", "recovery_of", "usage_of"]

#: Seconds of a window, and between two of them.
WINDOW_S, STEP_S = 2.0, 0.1
FULL_WINDOW_S = 3.0
#: Share of the usual below which slots are not in full use.
DIP = 0.85
#: Seconds after a fault within which its dip begins.
DIP_BEGINS_S = 10.0
#: Seconds at the start that do not count: processes make their first connections.
STARTING_S = 1.0


@dataclass(frozen=True)
class Recovery:
    """How a fault was recovered from, in seconds from the end of the fault.

    Parameters:
        first_s: Until a task started; None if none was left to start.
        full_s: Until every labourer used its slots as before, 0 if all of them did throughout; None if the tasks ran
            out, or another fault came, before that could be told.
    """

    kind: str
    first_s: float | None
    full_s: float | None


@dataclass(frozen=True)
class Usage:
    """The use of one labourer's slots.

    Parameters:
        times, running: From each time on so many run.
        area: Slot seconds until each time.
        begins, ends: Between them tasks were queued: from the first start to that of the task which began last.
        usual: How many run at a time before the first fault.
    """

    labourer_id: str
    cap: int
    starts: Sequence[float]
    times: Sequence[float]
    running: Sequence[int]
    area: Sequence[float] = field(repr=False)
    begins: float = 0.0
    ends: float = 0.0
    usual: float = 0.0

    @property
    def most(self) -> int:
        """How many ran at the worst instant."""
        return max(self.running, default=0)

    @property
    def most_at(self) -> float:
        """That instant."""
        return self.times[self.running.index(self.most)] if self.running else 0.0

    def mean(self, start: float, end: float) -> float:
        """Return how many ran on average."""
        return (self._area_until(end) - self._area_until(start)) / (end - start)

    def _area_until(self, at: float) -> float:
        index = bisect.bisect_right(self.times, at) - 1
        if index < 0:
            return 0.0
        return self.area[index] + self.running[index] * (at - self.times[index])


def usage_of(labourer_id: str, cap: int, spans: Sequence[tuple[float, float]], evidence: Evidence) -> Usage:
    """Return the use of a labourer's slots by the spans in which its bodies ran."""
    # At the same instant ends come first.
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    times: list[float] = []
    running: list[int] = []
    area: list[float] = []
    now, total = 0, 0.0
    for at, change in changes:
        if times:
            total += now * (at - times[-1])
        now += change
        times.append(at)
        running.append(now)
        area.append(total)
    first_starts: dict[str, float] = {}
    for run in evidence.runs:
        if evidence.labourer_of.get(run.task_id) == labourer_id:
            first_starts[run.task_id] = min(run.start, first_starts.get(run.task_id, run.start))
    starts = sorted(start for start, _ in spans)
    bare = Usage(
        labourer_id,
        cap,
        starts,
        times,
        running,
        area,
        min(starts, default=0.0),
        max(first_starts.values(), default=0.0),
    )
    windows = list(_windows(bare, bare.begins + STARTING_S, min(evidence.calm_until, bare.ends)))
    if not windows:
        return bare
    return Usage(
        *(labourer_id, cap, starts, times, running, area, bare.begins, bare.ends),
        usual=statistics.median(windows),
    )


def recovery_of(fault: FaultRecord, usages: Iterable[Usage], faults: Sequence[FaultRecord]) -> Recovery:
    """Return how long after a fault tasks started again, and slots were in full use again."""
    usages = list(usages)
    starts = sorted(start for usage in usages for start in usage.starts if start > fault.over)
    first_s = starts[0] - fault.over if starts else None
    until = min([other.at for other in faults if other.happened and other.at > fault.at], default=float("inf"))
    full = [_full_after(fault, usage, until) for usage in usages if usage.usual]
    known = [seconds for seconds in full if seconds is not None]
    full_s = max(known) if known and len(known) == len(full) else None
    return Recovery(fault.kind, first_s, full_s)


def _full_after(fault: FaultRecord, usage: Usage, until: float) -> float | None:
    end = min(until, usage.ends)
    wanted = usage.usual * DIP
    at, dip = fault.at, None
    while at + WINDOW_S <= min(end, fault.over + DIP_BEGINS_S):
        if usage.mean(at, at + WINDOW_S) < wanted:
            dip = at
            break
        at += STEP_S
    if dip is None:
        return 0.0 if end > fault.over + WINDOW_S else None
    at = max(dip, fault.over)
    while at + FULL_WINDOW_S <= end:
        if usage.mean(at, at + FULL_WINDOW_S) >= wanted:
            return max(0.0, at - fault.over)
        at += STEP_S
    return None


def low_for(usage: Usage, start: float, end: float) -> float:
    """Return for how many seconds between two instants slots were in less than full use, by windows of `FULL_WINDOW_S`.

    0 where it is not known how they are used as a rule.
    """
    end = min(end, usage.ends)
    steps = range(int(max(0.0, end - start - FULL_WINDOW_S) / STEP_S))
    low = [usage.mean(start + step * STEP_S, start + step * STEP_S + FULL_WINDOW_S) for step in steps]
    return STEP_S * sum(mean < usage.usual * DIP for mean in low)


def _windows(usage: Usage, start: float, end: float) -> Iterable[float]:
    at = start
    while at + WINDOW_S <= end:
        yield usage.mean(at, at + WINDOW_S)
        at += STEP_S
