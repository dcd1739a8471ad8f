"""What commands print: tables for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sosw_celery.core.exact import EXACT

__all__ = ["console", "duration", "json_option", "number", "print_fields", "print_hanging", "print_json", "print_table"]

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for programs."
)


def console(*, err: bool = False) -> Console:
    """Return a console on what stdout (or stderr) is now; it draws only where that is a terminal.

    There it wraps between words; elsewhere a line stays one, for `grep` and the like.
    """
    out = Console(file=sys.stderr if err else sys.stdout, highlight=False)
    out.soft_wrap = not out.is_terminal
    return out


def print_hanging(out: Console, label: Text, text: Text) -> None:
    """Print a text behind its label; on a terminal its further lines stand below the first one."""
    if not out.is_terminal:
        out.print(label + text)
        return
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(label, text)
    out.print(grid)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value; exact numbers of the tables become JSON numbers."""
    click.echo(json.dumps(value, indent=indent, default=_plain, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """Print rows under their headers: numbers to the right, everything else to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [all(_is_number(row[index]) for row in rows) and bool(rows) for index in range(len(headers))]
    out = console()
    if out.is_terminal:
        out.print(_drawn(headers, cells, right, title))
        return
    if title:
        click.echo(title)
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for row in (headers, *cells):
        padded = [text.rjust(w) if r else text.ljust(w) for text, w, r in zip(row, widths, right, strict=True)]
        click.echo("  ".join(padded).rstrip())


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one a line; what is None or empty is left out. Texts of several lines are indented."""
    shown = {name: _cell(value) for name, value in fields.items() if value not in (None, "", (), [])}
    width = max(map(len, shown), default=0)
    out = console()
    for name, text in shown.items():
        label = click.style(name.ljust(width), dim=True) if out.is_terminal else name.ljust(width)
        first, *more = text.splitlines() or [""]
        click.echo("\n".join([f"{label}  {first}", *(" " * (width + 2) + line for line in more)]))


def number(value: int | float, *, at_least: bool = False) -> str:
    """Return a count for people: `12,345`, or `10,000+` when it was not counted to its end."""
    return f"{value:,}{'+' if at_least else ''}"


def duration(seconds: float | None) -> str:
    """Return a time span for people: `0.4 s`, `12 s`, `3:05`, `2:03:20`; a dash when it is not known."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _drawn(headers: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool], title: str) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold", pad_edge=False)
    for header, is_right in zip(headers, right, strict=True):
        table.add_column(header, justify="right" if is_right else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return "" if value is None else str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value[:1].isdigit() or value == "-"
    return isinstance(value, (int, float, Decimal))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == EXACT.to_integral_value(value) else float(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
