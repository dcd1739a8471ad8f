"""The example labourers: what they count, and that their tasks add up to what a plain loop finds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sosw_celery.cli.demo.census import sources
from sosw_celery.cli.demo.census.code import CodeCensus, census_of
from sosw_celery.cli.demo.census.imports import import_census, imports_of
from sosw_celery.cli.demo.census.jobs import (
    CHUNKABLE_ATTRS,
    CODE_NUMBERS,
    IMPORT_NUMBERS,
    build_jobs,
    plain_loop,
    totals_of,
)
from sosw_celery.cli.demo.census.sources import TOP_LEVEL, find_modules, parse, read_source
from sosw_celery.core.chunking import chunk_job

SOURCE = '''"""A module."""
import os.path, sys
from . import sibling
from ..above import thing
from json.decoder import JSONDecoder


class Shelf:
    """Holds books."""

    def add(self, book):
        """Add one."""
        if book and book.title:
            return [page for page in book]
        import zlib

    async def fetch(self): ...


def outer():
    def inner():
        return 1 if sys else 2
    return inner'''


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose standard library and installed packages are two small directories."""
    files = {
        "standard/abc.py": "import os\n",
        "standard/json/__init__.py": "from . import decoder\n",
        "standard/json/decoder.py": "def decode(): pass\n",
        "standard/json/not-a-module.py": "",
        "standard/json/data.txt": "",
        "standard/data/no_package.py": "",
        "standard/test/__init__.py": "",
        "standard/test/test_abc.py": "import abc\n",
        "standard/test/bad_coding.py": "# -*- coding: nothing -*-\n",
        "standard/broken.py": "def (:\n",
        "standard/coded.py": "# -*- coding: nothing -*-\n",
        "standard/latin.py": "# -*- coding: latin-1 -*-\nname = '\xe9'\n",
        "standard/site-packages/extra/__init__.py": "",
        "installed/extra/__init__.py": "import abc, extra.part\n",
        "installed/json/__init__.py": "# shadowed by the standard one\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    monkeypatch.setattr(sources, "source_roots", lambda: (tmp_path / "standard", tmp_path / "installed"))
    return tmp_path


def tasks_of(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the payloads of the tasks that the job becomes."""
    event = {key: value for key, value in job.items() if key != "lambda_name"}
    return iter(chunk_job(event, CHUNKABLE_ATTRS, date(2026, 11, 23)))


def outcome_of(labourer_id: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Run one task here, and return what it would leave on its row, read back from DynamoDB."""
    if labourer_id == "import_census":
        found = {f"result_{key}": value for key, value in import_census(payload).items()}
    else:
        labourer = CodeCensus()
        labourer(payload)
        found = {f"stat_{key}": value for key, value in labourer.stats.items()}
        found |= {f"result_{key}": value for key, value in labourer.result.items()}
    return {key: Decimal(value) if isinstance(value, int) else value for key, value in found.items()}


def test_census_of_a_module() -> None:
    """Lines, functions, classes, branches, docstrings and the longest function are counted."""
    assert census_of(SOURCE) == {
        "lines": 23,
        "functions": 4,
        "classes": 1,
        "branches": 4,  # if, and, the comprehension, the conditional expression
        "docstrings": 3,
        "longest_function": {"name": "add", "lines": 5},
    }


@pytest.mark.parametrize(("source", "lines"), [("", 0), ("\n", 1), ("a = 1", 1), ("a = 1\n", 1), ("a = 1\n\n", 2)])
def test_lines_are_counted_as_an_editor_does(source: str, lines: int) -> None:
    """A last line without its end counts, the end of the last line does not start another."""
    census = census_of(source)

    assert census is not None
    assert (census["lines"], census["longest_function"]) == (lines, None)


def test_imports_of_a_module() -> None:
    """Import statements are counted, relative ones as well; names are those of top-level modules, each once."""
    assert imports_of(SOURCE) == {"imports": 5, "relative_imports": 2, "imported": {"os", "sys", "json", "zlib"}}


@pytest.mark.parametrize("source", [None, "def (:", "print 'old'", "\0"])
def test_what_is_not_python_has_no_census(source: str | None) -> None:
    """A module that is not there or not Python is no error of the labourer."""
    assert (census_of(source), imports_of(source), parse(source)) == (None, None, None)


def test_warnings_about_the_source_are_not_ours() -> None:
    """A source that Python warns about is read without a warning."""
    assert isinstance(parse(r"pattern = '\d'"), ast.Module)


def test_modules_are_found_in_order(library: Path) -> None:
    """The standard library comes first, then its tests without the broken ones, then installed packages."""
    assert find_modules(100) == {
        TOP_LEVEL: ["abc", "broken", "coded", "latin"],
        "json": ["__init__", "decoder"],
        "test": ["__init__", "test_abc"],
        "extra": ["__init__"],
    }
    assert find_modules(3) == {TOP_LEVEL: ["abc", "broken", "coded"]}
    assert find_modules(0) == {}


def test_sources_are_read_in_their_coding(library: Path) -> None:
    """The coding line is obeyed; what cannot be read is None; the standard library wins over a namesake."""
    assert (read_source(TOP_LEVEL, "latin") or "").endswith("name = '\xe9'\n")
    assert read_source(TOP_LEVEL, "coded") is None
    assert read_source("no.such", "module") is None
    assert read_source("json", "__init__") == "from . import decoder\n"
    assert read_source("extra", "__init__") == "import abc, extra.part\n"


def test_unreadable_modules_are_counted(library: Path) -> None:
    """A module that cannot be read or parsed is counted as such, and the task goes on."""
    payload = {"packages": [TOP_LEVEL], "modules": ["abc", "broken", "coded", "gone"]}

    assert outcome_of("code_census", payload) == {
        "stat_processor_calls": 1,
        "stat_modules": 4,
        "stat_unreadable": 3,
        "stat_lines": 1,
        "stat_functions": 0,
        "stat_classes": 0,
        "stat_branches": 0,
        "stat_docstrings": 0,
        "result_longest_function": None,
    }
    assert outcome_of("import_census", payload) == {
        "result_modules": 4,
        "result_unreadable": 3,
        "result_imports": 1,
        "result_relative_imports": 0,
        "result_imported": {"os": 1},
    }


def test_the_tasks_of_the_jobs_add_up_to_the_plain_loop() -> None:
    """What the tasks leave behind adds up to exactly what a loop over the same files finds."""
    jobs = build_jobs(60)

    outcomes = [
        (job["lambda_name"], outcome_of(job["lambda_name"], payload)) for job in jobs for payload in tasks_of(job)
    ]

    totals = totals_of(outcomes)
    assert totals == plain_loop(jobs)
    assert totals["code_census"]["modules"] == totals["import_census"]["modules"] == 60
    assert totals["code_census"]["lines"] > 10_000


def test_the_jobs_are_large_enough() -> None:
    """The jobs are about more than 1,000 modules, each in exactly one task of each labourer, in hundreds of tasks."""
    jobs = build_jobs()

    tasks = {job["lambda_name"]: list(tasks_of(job)) for job in jobs}

    for payloads in tasks.values():
        modules = [pair for payload in payloads for pair in sources.modules_of(payload)]
        assert len(modules) == len(set(modules)) > 1_000
    assert len(tasks["code_census"]) > 300
    assert len(tasks["import_census"]) > 90


def test_a_package_is_isolated_batched_or_whole_by_its_size() -> None:
    """Large packages are batched, middle ones isolated, small ones stay one task."""
    packages = build_jobs()[0]["packages"]

    flags = {len(node["modules"]): sorted(set(node) - {"modules"}) for node in packages.values()}

    assert all(flag == [] for size, flag in flags.items() if size <= 4)
    assert all(flag == ["isolate_modules"] for size, flag in flags.items() if 4 < size <= 24)
    assert all(flag == ["max_modules_per_batch"] for size, flag in flags.items() if size > 24)
    assert {"isolate_modules", "max_modules_per_batch"} <= {name for flag in flags.values() for name in flag}


@pytest.mark.parametrize("limit", [20, 40])
def test_totals_name_every_number_however_few_modules_there_are(limit: int) -> None:
    """What was not found even once is 0 in the totals of the loop and of the tasks alike, and the demo can show it."""
    jobs = build_jobs(limit)
    plain = plain_loop(jobs)
    assert plain["code_census"].keys() == {*CODE_NUMBERS, "longest_function"}
    assert plain["import_census"].keys() == {*IMPORT_NUMBERS, "imported"}
    outcomes = [
        (job["lambda_name"], outcome_of(job["lambda_name"], payload)) for job in jobs for payload in tasks_of(job)
    ]
    assert totals_of(outcomes) == plain
