"""Run benchmarks one after the other and show all figures in one table.

    python -m benchmarks [NAME...] [--quick] [--output FILE]

Each runs in a process of its own, the same as `python -m benchmarks.NAME`. Exit status 3 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Figure, exit_status, show, tell
from benchmarks.machine import busy_share, description

#: In the order of the table.
NAMES = (
    "chunking",
    "schedule_rows",
    "queue_length",
    "drain",
    "aws_drain",
    "tasks_50ms",
    "slots",
    "aws_slots",
    "aws_cost",
    "calls",
    "idle",
    "memory",
)


def run(name: str, *, quick: bool) -> list[Figure]:
    """Return the figures of one benchmark; of one that did not end well, a figure that misses its target."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(["--quick"] if quick else [])]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not ended.stdout.strip():
        return [Figure(f"{name} did not end well", ended.returncode, "exit status", at_most=0)]
    return [Figure(**figure) for figure in json.loads(ended.stdout)]


def markdown(results: Mapping[str, Sequence[Figure]], heading: str) -> str:
    """Return all figures as a page, with the command that measures each group again."""
    lines = ["# Figures", "", heading, ""]
    for name, figures in results.items():
        lines += [
            f"`python -m benchmarks.{name}`",
            "",
            "| figure | measured | target | | detail |",
            "| --- | ---: | --- | --- | --- |",
        ]
        lines += [f"| {' | '.join(figure.cells)} |" for figure in figures]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what this system costs.")
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=f"default all: {', '.join(NAMES)}"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, whose figures mean little")
    parser.add_argument("--output", type=Path, help="write the figures there too, as Markdown")
    given = parser.parse_args()
    results, busy = {}, []
    for name in given.names or NAMES:
        busy.append(busy_share())
        tell(f"--- {name}")
        results[name] = run(name, quick=given.quick)
    show([figure for figures in results.values() for figure in figures])
    if given.output:
        sizes = "small sizes, whose figures mean little" if given.quick else "full sizes"
        others = f"Before each benchmark other work kept {min(busy):.0%} to {max(busy):.0%} of the cores busy."
        date = time.strftime("%Y-%m-%d", time.gmtime())
        given.output.write_text(markdown(results, f"{date}, {sizes}. {description()}. {others}"), encoding="utf-8")
    sys.exit(exit_status(figure for figures in results.values() for figure in figures))


if __name__ == "__main__":
    main()
