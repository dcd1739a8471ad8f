"""The picture in the README: what `make picture` draws of the demo, and that it draws nothing of one that failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.text import Text

from sosw_celery.system.exits import CommandFailed
from tools import picture

SVG = "{http://www.w3.org/2000/svg}"


def lines_of(svg: str) -> list[str]:
    """Return the text of a picture line by line, from top to bottom; the title is none of them."""
    lines: dict[float, str] = {}
    for text in ElementTree.fromstring(svg).iterfind(f".//{SVG}g[@class='demo-matrix']/{SVG}text"):
        y = float(text.attrib["y"])
        lines[y] = lines.get(y, "") + (text.text or "")
    return [lines[y].replace("\xa0", " ").rstrip() for y in sorted(lines)]


def test_a_picture_holds_the_lines_in_their_order() -> None:
    """What the terminal showed can be read in it, with what has a meaning in XML and with signs that are not ASCII."""
    shown = ["  0.1 s  a < b & c > d", "how it ended \u2500\u2500", "ok    all of it"]
    assert lines_of(picture.picture(shown)) == shown


def test_a_picture_has_the_colours_of_the_terminal() -> None:
    """What the demo shows in green is green."""
    svg = picture.picture(["\x1b[32mok\x1b[0m    all of it"])
    (text,) = [one for one in ElementTree.fromstring(svg).iter(f"{SVG}text") if one.text == "ok"]
    assert f".{text.attrib['class']} {{ fill: #98a84b }}" in svg


def test_a_picture_loads_nothing() -> None:
    """It looks the same without a network: it names no font, style or image of others."""
    svg = picture.picture(["a line"])
    assert re.findall(r"https?://[^\s\"')]+", svg) == ["http://www.w3.org/2000/svg"]
    assert "url(#" in svg
    assert not re.search(r"@import|@font-face|url\((?!#)", svg)


def test_what_is_left_out_is_marked() -> None:
    """Of many lines the first and the last ones are shown, and that there were others between them."""
    lines = [str(number) for number in range(10)]
    assert picture.cut(lines, head=3, tail=2) == ["0", "1", "2", "...", "8", "9"]


def test_few_lines_are_all_shown() -> None:
    """Nothing is marked as left out when all of it has its place."""
    lines = [str(number) for number in range(5)]
    assert picture.cut(lines, head=3, tail=2) == lines


def test_the_demo_is_drawn_as_it_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file holds what the demo printed, and the terminal shows it as well."""

    def show_demo(out: Console) -> None:
        out.print(Text("ok", "green") + Text("    all of it"))

    monkeypatch.setattr(picture, "show_demo", show_demo)
    monkeypatch.setenv("TERM", "xterm")
    place = tmp_path / "demo.svg"
    shown = CliRunner().invoke(picture.main, [str(place)])
    assert shown.exit_code == 0
    assert "ok    all of it" in shown.output
    assert lines_of(place.read_text()) == ["ok    all of it"]


def test_a_demo_that_fails_leaves_the_picture_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says why, the exit code is not 0, and the file is not touched."""

    def show_demo(_: Any) -> None:
        raise CommandFailed("beat has ended by itself (killed by signal 9)")

    monkeypatch.setattr(picture, "show_demo", show_demo)
    monkeypatch.setenv("TERM", "xterm")
    place = tmp_path / "demo.svg"
    place.write_text("the old one")
    shown = CliRunner().invoke(picture.main, [str(place)])
    assert shown.exit_code == 1
    assert "error: beat has ended by itself (killed by signal 9)" in shown.output
    assert place.read_text() == "the old one"
