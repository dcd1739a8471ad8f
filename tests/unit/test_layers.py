"""Rules of the house that imports alone do not show; `make lint` checks the floors."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import sosw_celery

PACKAGE = Path(sosw_celery.__file__).parent
ROOT = PACKAGE.parent

#: What the core may import beside its own modules and those of the ground: what computes, and asks nobody.
PURE = frozenset(
    [
        *("__future__", "collections", "contextlib", "copy", "cronsim", "dataclasses", "datetime", "decimal", "enum"),
        *("functools", "hashlib", "itertools", "json", "logging", "math", "numbers", "operator", "re", "typing"),
        *("urllib", "uuid", "zoneinfo"),
    ]
)
#: Names of theirs that ask a clock, or chance.
IMPURE = frozenset(["now", "today", "utcnow", "uuid1", "uuid4"])
#: Where the system is named that is loaded when an app needs it, and the one class of it that Celery has to be told.
NAMED_ABOVE = frozenset(["sosw_celery.system.bootstrap", "sosw_celery.system.loading"])


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


def floors() -> dict[str, int]:
    """Return how high each room is, as the contract of the floors has them."""
    text = (ROOT / "pyproject.toml").read_text()
    (layers,) = re.findall(r"^layers = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    lines = re.findall(r'"([^"]+)"', layers)
    return {room: height for height, line in enumerate(reversed(lines)) for room in re.findall(r"\w+", line)}


def modules_named_in(path: Path) -> set[str]:
    """Return the modules of ours that strings of a module name: those may be imported by their names."""
    strings = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    named = (text.partition(":")[0] for text in strings if isinstance(text, str))
    return {name for name in named if re.fullmatch(r"sosw_celery(\.\w+)+", name) and is_module(name)}


def is_module(name: str) -> bool:
    """Return whether a module of this name is there."""
    place = ROOT / name.replace(".", "/")
    return place.with_suffix(".py").exists() or place.is_dir()


def test_no_import_that_is_hidden_in_a_string_goes_up() -> None:
    """The contracts see `import` alone; what is loaded by its name, to load it late, lies below as well."""
    height_of = floors()
    hidden = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":  # the names of the package, each from where it is
            continue
        above = {name for name in modules_named_in(path) if height_of[name.split(".")[1]] > height_of[room]}
        if above - NAMED_ABOVE or (above and path.name != "celery.py"):
            hidden[str(path)] = above
    assert hidden == {}


def test_the_package_itself_loads_nothing() -> None:
    """`import sosw_celery` is made by everybody, also by those who want the core alone."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    loaded = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in loaded if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in loaded if isinstance(node, ast.ImportFrom)}
    assert names == {"__future__", "importlib", "typing"}


def test_the_core_computes_and_asks_nobody() -> None:
    """What it returns follows from what it is given: no clock, chance, file, process or thread is within its reach."""
    for path in (PACKAGE / "core").rglob("*.py"):
        assert imported_by(path) - {"sosw_celery"} <= PURE, path
        tree = ast.parse(path.read_text())
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not used & IMPURE, path
