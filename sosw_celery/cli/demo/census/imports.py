"""A labourer that counts which modules are imported, and by how many others.

Written as a plain function: what it returns is kept as the task's result. A task's payload names packages and modules:
`{"packages": ["asyncio"], "modules": ["events", "tasks"]}`.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypedDict

from sosw_celery import Worker, app
from sosw_celery.cli.demo.census.sources import modules_of, parse, read_source

__all__ = ["ImportCensus", "import_census", "imports_of"]


class ImportCensus(TypedDict):
    """What one module imports."""

    #: Import statements, those inside functions included.
    imports: int
    #: Statements of those that are relative: `from . import events`.
    relative_imports: int
    #: The top-level names imported absolutely: `os` for `import os.path`.
    imported: set[str]


def imports_of(source: str | None) -> ImportCensus | None:
    """Return what a module's source imports; None when it is not Python."""
    tree = parse(source)
    if tree is None:
        return None
    nodes = list(ast.walk(tree))
    plain = [node for node in nodes if isinstance(node, ast.Import)]
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in plain for alias in node.names]
    names += [node.module for node in froms if node.module and not node.level]
    return ImportCensus(
        imports=len(plain) + len(froms),
        relative_imports=sum(node.level > 0 for node in froms),
        imported={name.split(".")[0] for name in names},
    )


@app.task(base=Worker, name="import_census")
def import_census(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task's totals, and for each imported name how many of its modules import it."""
    totals: Counter[str] = Counter()
    imported: Counter[str] = Counter()
    for package, module in modules_of(event):
        totals["modules"] += 1
        census = imports_of(read_source(package, module))
        if census is None:
            totals["unreadable"] += 1
            continue
        totals["imports"] += census["imports"]
        totals["relative_imports"] += census["relative_imports"]
        imported.update(census["imported"])
    return {**totals, "imported": dict(imported)}
