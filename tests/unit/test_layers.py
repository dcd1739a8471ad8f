"""Rules of the house that imports alone do not show; `make lint` checks the floors."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import sosw_celery

PACKAGE = Path(sosw_celery.__file__).parent


def imported_by(path: Path) -> set[str]:
    """Return the top-level names of the modules that a module imports, anywhere in it."""
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_one_module_makes_memory_that_processes_share() -> None:
    """Whoever looks for what a pool shares with its main process opens one file."""
    users = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "mmap" in imported_by(path)}
    assert users == {"labourer/pool_memory.py"}


def test_the_root_has_no_more_than_six_modules() -> None:
    """Everything else has a room."""
    modules = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
    assert len(modules) <= 6, modules


def test_each_correction_to_celery_says_for_which_version_and_when_it_may_go() -> None:
    """Else it stays for ever."""
    for path in (PACKAGE / "celery_fixes").glob("[!_]*.py"):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert re.search(r"celery 5\.\d", text, re.IGNORECASE), path.name
        assert "Delete" in text, path.name
