"""Where the examples find Python source: the standard library, and then the packages that are installed beside it.

A module is named by its package (`asyncio`, `email.mime`, or `TOP_LEVEL` for a module of no package) and its own name
(`events`, `__init__`).
"""

from __future__ import annotations

import ast
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["TOP_LEVEL", "find_modules", "modules_of", "parse", "read_source"]

#: The package name of modules that belong to no package.
TOP_LEVEL = "top_level"

#: Python's own test suite keeps modules that must not compile; their names begin so.
DELIBERATELY_BROKEN = ("bad_", "badsyntax_")


def source_roots() -> tuple[Path, ...]:
    """Return the directories to look in, the standard library's first."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys(Path(paths[name]) for name in ("stdlib", "purelib")))


def find_modules(limit: int) -> dict[str, list[str]]:
    """Return up to `limit` modules of this machine by package, the same on each call.

    The standard library's come first, those of its test suite after the others (the large ones on its top level last),
    then those of installed packages: a system's own Python often comes without the test suite.
    """
    found: dict[str, list[str]] = {}
    for package, module in _walk_roots():
        if limit <= 0:
            break
        if module not in found.setdefault(package, []):
            found[package].append(module)
            limit -= 1
    return found


def modules_of(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the (package, module) pairs that a task of the census is about."""
    return [(package, module) for package in event["packages"] for module in event["modules"]]


def read_source(package: str, module: str) -> str | None:
    """Return the source of a module; None when there is no such file or its bytes are no text."""
    parts = [] if package == TOP_LEVEL else package.split(".")
    for root in source_roots():
        path = root.joinpath(*parts, f"{module}.py")
        if path.is_file():
            return _read(path)
    return None


def parse(source: str | None) -> ast.Module | None:
    """Return the syntax tree of a source; None when there is none, or it is not Python (of this version)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for the author of that source
            return None if source is None else ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def _read(path: Path) -> str | None:
    try:
        with tokenize.open(path) as file:  # obeys the coding line of the file
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):  # SyntaxError: a coding that does not exist
        return None


def _walk_roots() -> Iterator[tuple[str, str]]:
    standard, *installed = source_roots()
    pairs = list(_walk(standard))
    tests = [pair for pair in pairs if pair[0].split(".")[0] == "test" and not pair[1].startswith(DELIBERATELY_BROKEN)]
    yield from (pair for pair in pairs if pair[0].split(".")[0] != "test")
    yield from sorted(tests, key=lambda pair: pair[0] == "test")
    for root in installed:
        yield from _walk(root)


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    for directory, folders, files in os.walk(root):
        here = Path(directory)
        # A directory without __init__ is data, or a place for packages of others as site-packages.
        folders[:] = sorted(name for name in folders if name.isidentifier() and (here / name / "__init__.py").is_file())
        package = ".".join(here.relative_to(root).parts) or TOP_LEVEL
        for name in sorted(files):
            if name.endswith(".py") and name[:-3].isidentifier():
                yield package, name[:-3]
