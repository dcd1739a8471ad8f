"""A measured figure, its target, and how both are shown; and the command line that all benchmarks share.

A benchmark is a module with `FULL` and `QUICK` (its sizes, by name) and `measure(**sizes)`, which returns figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "exit_status", "main", "median", "percentile", "show", "tell"]

#: Exit status when a target is missed.
MISSED = 3

Measure = Callable[..., "list[Figure]"]


@dataclass(frozen=True)
class Figure:
    """One number that was measured.

    Parameters:
        at_least, at_most: The target; neither: the figure is told because it explains another one.
        detail: What else has to be known to read it.
    """

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the target is reached; always where there is none."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def target(self) -> str:
        """The target in words, empty if there is none."""
        bounds = [("≥", self.at_least), ("≤", self.at_most)]
        return ", ".join(f"{sign} {number(bound)}" for sign, bound in bounds if bound is not None)

    @property
    def verdict(self) -> str:
        """`pass` or `fail`; empty if there is no target."""
        return ("pass" if self.is_met else "fail") if self.target else ""

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """The row of a table: name, measured, target, verdict, detail."""
        return self.name, f"{number(self.value)} {self.unit}".strip(), self.target, self.verdict, self.detail


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def show(figures: Sequence[Figure]) -> None:
    """Print figures as a table."""
    table = Table("figure", "measured", "target", "", "detail", pad_edge=False, box=None)
    for figure in figures:
        table.add_row(*figure.cells, style="red" if not figure.is_met else None)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def tell(text: str) -> None:
    """Print how far a benchmark is, apart from its figures."""
    print(text, file=sys.stderr, flush=True)


def main(
    description: str | None,
    measure: Measure,
    full: Mapping[str, int],
    quick: Mapping[str, int],
    parts: Collection[str] = (),
) -> None:
    """Measure as the command line asks for and print the figures; exit status 3 if a target is missed.

    Parameters:
        parts: What the benchmark can do without: it is given the names that follow `--without`.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, whose figures mean little")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    for name, value in full.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, metavar="N", help=f"default {value:,}, with --quick {quick[name]:,}")
    if parts:
        parser.add_argument(
            "--without", type=_some_of(parts), default=(), metavar="PART,...", help=f"some of: {', '.join(parts)}"
        )
    given = vars(parser.parse_args())
    sizes = quick if given["quick"] else full
    local_credentials()
    options = {"without": given["without"]} if parts else {}
    figures = measure(
        **{name: value if given[name] is None else given[name] for name, value in sizes.items()}, **options
    )
    if given["json"]:
        print(json.dumps([asdict(figure) for figure in figures]))
    else:
        show(figures)
    sys.exit(exit_status(figures))


def _some_of(parts: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Return what reads names with commas between."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in parts:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(parts)}")
        return names

    return read


def exit_status(figures: Iterable[Figure]) -> int:
    """Return 0 if all targets are reached, else 3: not to be taken for a benchmark that failed."""
    return 0 if all(figure.is_met for figure in figures) else MISSED


def local_credentials() -> None:
    """Have AWS clients of this process and its children use made-up credentials: no benchmark reaches an account."""
    os.environ.update(
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local",
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    )
