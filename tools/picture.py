"""Makes the picture in the README: runs the demo, and draws what it leaves on the terminal.

    python -m tools.picture FILE.svg

Without a good end of the demo, there is no picture.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from sosw_celery.cli import Command
from sosw_celery.cli.demo.command import show_demo
from sosw_celery.cli.exits import one_exit

__all__ = ["cut", "main", "picture"]

#: Columns of the terminal: they can be read in the width of a page, and few of the demo's lines are broken.
COLUMNS = 92
#: Lines that are kept of the beginning and of the end.
HEAD, TAIL = 19, 10
LEFT_OUT = "..."
TITLE = "sosw-celery demo"

# As rich's own format, but with the fonts of who looks at it: that one loads a font from elsewhere.
FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
}}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


@click.command(cls=Command, examples=["python -m tools.picture docs/demo.svg"])
@click.argument("place", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def main(ctx: click.Context, place: Path) -> None:
    """Run the demo and write its picture to PLACE."""
    with one_exit(ctx):
        place.write_text(picture(cut(demo_lines())))


def demo_lines() -> list[str]:
    """Run the demo, which shows itself on stdout, and return the lines that it leaves there, styled by ANSI codes.

    Raises:
        CommandFailed: See `show_demo`.
    """
    # The bars that move on a terminal leave nothing on it: on one that cannot move its cursor they are not drawn.
    os.environ["TERM"] = "dumb"
    out = Console(record=True, force_terminal=True, width=COLUMNS, height=HEAD + TAIL, highlight=False)
    show_demo(out)
    return out.export_text(styles=True).splitlines()


def cut(lines: Sequence[str], *, head: int = HEAD, tail: int = TAIL) -> list[str]:
    """Return the beginning and the end of the lines, with a mark in the place of what is between them."""
    if len(lines) <= head + tail:
        return list(lines)
    return [*lines[:head], LEFT_OUT, *lines[-tail:]]


def picture(lines: Sequence[str]) -> str:
    """Return lines of a terminal, styled by ANSI codes, as an SVG that loads nothing."""
    screen = Console(record=True, file=io.StringIO(), width=COLUMNS, highlight=False)
    for line in lines:
        screen.print(Text.from_ansi(line), no_wrap=True)
    return screen.export_svg(title=TITLE, code_format=FORMAT, unique_id="demo")


if __name__ == "__main__":
    main()
