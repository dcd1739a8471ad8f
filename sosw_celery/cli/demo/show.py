"""What the demo shows: live on a terminal, as lines elsewhere; at the end what was found, and the proof."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from sosw_celery.cli.output import duration, number, print_hanging

if TYPE_CHECKING:
    from sosw_celery.cli.demo.check import Check, Outcome
    from sosw_celery.cli.demo.observe import Sight

__all__ = ["Screen", "show_checks", "show_found", "show_outcomes"]

#: Seconds between two lines of progress where nothing can be drawn.
LINE_S = 3.0
#: Lines of the tables of what was found.
TOP = 6

#: Characters of a progress bar.
WIDEST_BAR, NARROWEST_BAR = 24, 6
#: Columns of a terminal up to which tables stand closer.
NARROW = 90
#: Before what stands under a labourer's name.
INDENT = " " * 15

COLUMNS = ("queued", "hints", "running", "done", "failed", "retried", "rate", "ETA")


class Screen:
    """Shows events and progress while its `with` block runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._next_line = 0.0
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    @property
    def seconds(self) -> float:
        """Seconds since the screen was made."""
        return time.monotonic() - self._began

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def event(self, text: str, style: str = "") -> None:
        """Say that something happened; it stays on the screen."""
        print_hanging(self._console, Text(f"{self._clock()}  ", "dim"), Text(text, style))

    def progress(self, sights: Sequence[Sight]) -> None:
        """Show where the jobs stand, in place of what was shown before."""
        if self._console.is_terminal:
            self._live.update(Group(Text(), _progress_table(sights, self._console.width)))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_S
            for sight in sights:
                self.event(_line(sight))

    def _clock(self) -> str:
        return f"{self.seconds:5.1f} s"


def show_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Show how the jobs ended, by the rows of the closed table."""
    columns = ("labourer", "tasks", "completed", "dead", "failed", "retried", "most at once", "time", "rate")
    table = _plain_table(*columns, gap=2 if console.width > NARROW or not console.is_terminal else 1)
    for outcome in outcomes:
        failed, retried = outcome.failed, outcome.retried
        table.add_row(
            outcome.labourer_id,
            number(outcome.summary.tasks or 0),
            number(outcome.summary.completed),
            number(outcome.summary.dead),
            Text(number(failed), "red" if failed else ""),
            Text(number(retried), "cyan" if retried else ""),
            f"{outcome.most_at_once} of {outcome.cap}",
            duration(outcome.seconds),
            f"{outcome.summary.completed / outcome.seconds:.0f}/s" if outcome.seconds else "-",
        )
    console.print()
    console.print(Rule("how it ended", align="left", style="dim"))
    console.print(table)


def show_found(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Show what the labourers found out about the code on this machine."""
    console.print()
    console.print(Rule("what was found", align="left", style="dim"))
    for index, outcome in enumerate(outcomes):
        if index:
            console.print()
        show = _show_code if outcome.labourer_id == "code_census" else _show_imports
        show(console, outcome)


def show_checks(console: Console, checks: Sequence[Check], seconds: float) -> None:
    """Show the proof, sentence by sentence, and the time that all of it took."""
    console.print()
    console.print(Rule("checked", align="left", style="dim"))
    for check in checks:
        mark = Text("ok    ", "bold green") if check.holds else Text("WRONG ", "bold red")
        print_hanging(
            console, mark, Text.assemble(check.sentence, (f": {check.found}", "dim" if check.holds else "red"))
        )
    verdict = ("All of it holds", "bold green") if all(check.holds for check in checks) else ("It failed", "bold red")
    console.print()
    console.print(Text.assemble(verdict, f", after {duration(seconds)}."))


def _progress_table(sights: Sequence[Sight], width: int) -> Table:
    rows = [[Text(sight.labourer_id), *_cells(sight)] for sight in sights]
    headers = ("labourer", *COLUMNS)
    needed = sum(max(map(len, map(str, column))) for column in zip(headers, *rows, strict=True))
    gap = 2 if width >= needed + (len(headers) + 1) * 2 + WIDEST_BAR else 1
    bar_width = min(WIDEST_BAR, width - needed - (len(headers) + 1) * gap)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column(headers[0], no_wrap=True)
    # On a narrow terminal the numbers are worth more than the bar.
    has_bar = bar_width >= NARROWEST_BAR
    if has_bar:
        table.add_column("", width=bar_width)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for sight, (name_cell, *cells) in zip(sights, rows, strict=True):
        bar = [_bar(sight, bar_width)] if has_bar else []
        table.add_row(name_cell, *bar, *cells)
    return table


def _bar(sight: Sight, width: int) -> ProgressBar:
    done = sight.done + sight.dead
    return ProgressBar(
        total=sight.tasks or 1,
        completed=done,
        pulse=sight.tasks is None,
        width=width,
        complete_style="cyan",
        finished_style="green",
    )


def _cells(sight: Sight) -> list[Text]:
    tasks = "?" if sight.tasks is None else number(sight.tasks)
    return [
        Text(number(sight.queued)),
        Text(number(sight.handed_out)),
        Text(f"{sight.running}/{sight.cap}", "yellow" if sight.running == sight.cap else ""),
        Text(f"{number(sight.done)}/{tasks}", "green" if sight.has_ended else ""),
        Text(number(sight.failed), "red" if sight.failed else "dim"),
        Text(number(sight.retried), "cyan" if sight.retried else "dim"),
        Text("-" if sight.has_ended else f"{sight.rate:.0f}/s"),
        Text("done" if sight.has_ended else duration(sight.eta_s)),
    ]


def _line(sight: Sight) -> str:
    words = [f"{name} {text}" for name, text in zip(COLUMNS, _cells(sight), strict=True)]
    return f"{sight.labourer_id}: {', '.join(words)}"


def _show_code(console: Console, outcome: Outcome) -> None:
    totals = outcome.totals
    lines: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for row in outcome.rows:
        for package in json.loads(row.payload)["packages"]:
            lines[package] += int(row.extra.get("stat_lines", 0))
            modules[package] += int(row.extra.get("stat_modules", 0))
    found = (
        f"{number(totals['modules'])} modules: {number(totals['lines'])} lines, "
        f"{number(totals['functions'])} functions, {number(totals['classes'])} classes, "
        f"{number(totals['docstrings'])} docstrings"
    )
    print_hanging(console, _subject("code_census"), Text(found))
    longest = totals.get("longest_function")
    if longest:
        found = f"longest function: {longest['name']}, {number(longest['lines'])} lines"
        print_hanging(console, _subject(""), Text(found))
    table = _top_table("largest packages", "lines", "modules")
    for package, count in lines.most_common(TOP):
        table.add_row(INDENT + package, number(count), number(modules[package]))
    console.print(table)


def _show_imports(console: Console, outcome: Outcome) -> None:
    totals = outcome.totals
    imported = Counter(totals["imported"])
    found = (
        f"{number(totals['modules'])} modules: {number(totals['imports'])} imports, "
        f"{number(totals['relative_imports'])} of them relative, of {number(len(imported))} different modules"
    )
    print_hanging(console, _subject("import_census"), Text(found))
    table = _top_table("most imported", "by modules", "share")
    for name, count in sorted(imported.items(), key=lambda item: (-item[1], item[0]))[:TOP]:
        table.add_row(INDENT + name, number(count), f"{count / totals['modules']:.0%}")
    console.print(table)


def _top_table(subject: str, *measures: str) -> Table:
    return _plain_table(INDENT + subject, *measures)


def _subject(name: str) -> Text:
    return Text(name.ljust(len(INDENT)), "bold")


def _plain_table(subject: str, *measures: str, gap: int = 2) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column(subject, no_wrap=True)
    for measure in measures:
        table.add_column(measure, justify="right", no_wrap=True)
    return table
