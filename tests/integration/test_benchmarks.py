"""The benchmarks run, with small sizes; what they measure then means little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.parts import PARTS

# On a busy machine; alone they take ten seconds together.
pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Python in the checkout. Exit status 3 says that a target was missed, as it may be here."""
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=170, check=False
    )
    assert ended.returncode in (0, 3), ended.stderr
    return ended


def test_one_command_runs_benchmarks_and_writes_a_page_of_figures(dynamodb_endpoint: str, tmp_path: Path) -> None:
    """What was asked for stands on the page, with the machine, and with nothing of where it ran."""
    names = ("chunking", "aws_cost")
    page = tmp_path / "results.md"
    ended = run("-m", "benchmarks", *names, "--quick", "--output", str(page))
    text = page.read_text()
    assert all(f"`python -m benchmarks.{name}`" in text for name in names), ended.stderr
    assert "Python " in text
    assert str(ROOT) not in text
    assert "write units per task, alone" in ended.stdout
    assert "did not end well" not in text, ended.stderr


@pytest.mark.slow
def test_both_sides_of_the_drain_run_all_of_their_tasks(dynamodb_endpoint: str) -> None:
    """Plain Celery and ours drain what is queued; the figures of both are there and in JSON."""
    ended = run("-m", "benchmarks.drain", "--json", "--tasks", "40", "--rounds", "1")
    figures = {figure["name"]: figure["value"] for figure in json.loads(ended.stdout)}
    assert figures["drain, plain Celery"] > 0
    assert figures["drain, ours"] > 0
    assert figures["claims and closes alone to plain Celery"] > 0
    assert figures["claims, closes and archiving alone to plain Celery"] > 0
    assert figures["drain, ours to plain Celery"] == figures["drain, ours"] / figures["drain, plain Celery"]


@pytest.mark.slow
def test_where_calls_are_delayed_both_sides_run_all_of_their_tasks(dynamodb_endpoint: str) -> None:
    """Beside plain Celery, with the delay that was measured."""
    ended = run("-m", "benchmarks.tasks_50ms", "--json", "--tasks", "40", "--rounds", "1", "--processes", "2")
    figures = {figure["name"]: figure["value"] for figure in json.loads(ended.stdout)}
    ours, plain = (figures[f"tasks of 50 ms, 5 ms more per call, {side}"] for side in ("ours", "plain Celery"))
    assert figures["tasks of 50 ms, 5 ms more per call, ours to plain Celery"] == ours / plain
    assert "a call's delay as measured, where 5 ms are asked for" in figures


@pytest.mark.slow
def test_the_system_runs_all_of_its_tasks_without_the_parts_that_can_be_taken_out(dynamodb_endpoint: str) -> None:
    """Beside itself with all of them; without a delay there is none to be told."""
    ended = run(
        *("-m", "benchmarks.aws_drain", "--json", "--tasks", "40", "--rounds", "1"),
        *("--delay-ms", "0", "--without", ",".join(PARTS)),
    )
    figures = {figure["name"]: figure["value"] for figure in json.loads(ended.stdout)}
    others = f"ours without {', '.join(PARTS)}"
    assert figures[f"drain, ours to {others}"] == figures["drain, ours"] / figures[f"drain, {others}"]
    assert not any("delay" in name for name in figures)
