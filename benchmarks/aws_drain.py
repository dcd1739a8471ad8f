"""How fast queued no-op tasks are drained where a call of DynamoDB takes as long as on AWS, beside plain Celery.

    python -m benchmarks.aws_drain [--tasks 10000] [--rounds 5] [--processes 2] [--slots 10] [--delay-ms 5]
    python -m benchmarks.aws_drain --without item_parser

As `benchmarks.drain`, but between all processes of our side and the engine stands a proxy that holds each answer back
for 5 ms. With `--delay-ms 0` there is none: that is the same drain on this machine alone. Each side has servers of its
own in each round, and the sides take turns in being the first.

What a call really took longer is measured meanwhile, by the same call both ways, and told with the figures. The proxy
runs on the same cores as the system; its share of them is told too.

With `--without` our side is not compared with plain Celery but with itself without these parts (names with commas
between), in paired rounds like those. A part pays its way if the drain with it is 1.1 times as fast or more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.delay import delay_figures, more_per_call
from benchmarks.drain import Drained, Load, cpu_figure, drain_ours, drain_plain, rate_figure, round_by_round
from benchmarks.figures import Figure, main, median, tell
from benchmarks.parts import PARTS
from benchmarks.system import Servers

__all__ = ["Pair", "compare", "pair_of"]

FULL = {"tasks": 10_000, "rounds": 5, "processes": 2, "slots": 10, "delay_ms": 5}
QUICK = {"tasks": 300, "rounds": 1, "processes": 2, "slots": 10, "delay_ms": 5}

#: What a part has to pay: the rate with it to the rate without.
PAYS = 1.1


@dataclass(frozen=True)
class Pair:
    """One drain of each side, of as many tasks."""

    ours: Drained
    other: Drained

    @property
    def ratio(self) -> float:
        """Our rate to the other's."""
        return self.ours.rate / self.other.rate


def measure(tasks: int, rounds: int, processes: int, slots: int, delay_ms: int, without: Sequence[str]) -> list[Figure]:
    """Return the ratio of the rates, the rates, the CPU time of all processes, and the delay."""
    load = Load(tasks, processes=processes, slots=slots)
    return compare("drain", load, rounds, delay_ms, without)


def compare(
    name: str, load: Load, rounds: int, delay_ms: int, without: Sequence[str], *, at_least: float | None = None
) -> list[Figure]:
    """Return the figures of so many pairs of drains, ours with all parts being one side.

    Parameters:
        name: What is measured.
        without: The other side is ours without these parts; none: plain Celery.
        at_least: The target of the ratio to plain Celery.
    """

    def ours(without: Sequence[str] = ()) -> Drained:
        with Servers(delay_ms) as servers:
            return drain_ours(servers, load, without)

    def plain() -> Drained:
        with Servers() as servers:
            return drain_plain(servers, load)

    name += more_per_call(delay_ms)
    other = f"ours without {', '.join(without)}" if without else "plain Celery"
    pairs = []
    for number in range(rounds):
        pairs.append(pair_of(ours, (lambda: ours(without)) if without else plain, ours_first=number % 2 == 0))
        tell(f"{name}: ours {pairs[-1].ours.rate:.0f}/s, {other} {pairs[-1].other.rate:.0f}/s")
    ratios = [pair.ratio for pair in pairs]
    sizes = f"{load.tasks:,} tasks, {load.processes} processes, cap {load.slots}"
    return [
        Figure(
            f"{name}, ours to {other}",
            median(ratios),
            at_least=PAYS if without else at_least,
            detail=f"{sizes}, median of {round_by_round(ratios)}",
        ),
        rate_figure(f"{name}, {other}", [pair.other for pair in pairs]),
        rate_figure(f"{name}, ours", [pair.ours for pair in pairs]),
        cpu_figure(f"CPU per task{more_per_call(delay_ms)}, {other}", [pair.other for pair in pairs]),
        cpu_figure(f"CPU per task{more_per_call(delay_ms)}, ours", [pair.ours for pair in pairs]),
        *delay_figures(delay_ms, [drained.calls for pair in pairs for drained in (pair.ours, pair.other)]),
    ]


def pair_of(ours: Callable[[], Drained], other: Callable[[], Drained], *, ours_first: bool) -> Pair:
    """Drain with both sides."""
    if ours_first:
        return Pair(ours=ours(), other=other())
    others = other()
    return Pair(ours=ours(), other=others)


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK, parts=PARTS)
