"""The jobs of the example labourers, and the same totals by a plain loop.

Each job nests modules in packages; a package is isolated (each module a task of its own), batched, or one task as a
whole, by its size. The loop below shares `census_of` and `imports_of` with the labourers and nothing else: neither
chunking, nor tables, nor workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sosw_celery.cli.demo.census.code import LongestFunction, census_of, longest
from sosw_celery.cli.demo.census.imports import imports_of
from sosw_celery.cli.demo.census.sources import find_modules, read_source

__all__ = ["CHUNKABLE_ATTRS", "MODULES", "build_jobs", "plain_loop", "totals_of"]

#: The levels of these jobs, for `job_schema`.
CHUNKABLE_ATTRS = ("package", "module")

#: Modules that the jobs are about, unless told otherwise.
MODULES = 1_100

#: Packages of up to so many modules are one task, of up to so many isolated ones; larger ones are batched.
WHOLE, ISOLATED = 4, 24
CODE_BATCH, IMPORT_BATCH = 5, 12

#: The numbers that each labourer's tasks leave behind.
CODE_NUMBERS = ("modules", "unreadable", "lines", "functions", "classes", "branches", "docstrings")
IMPORT_NUMBERS = ("modules", "unreadable", "imports", "relative_imports")


def build_jobs(limit: int | None = None) -> list[dict[str, Any]]:
    """Return one job for each of the two labourers, about the same modules of this machine.

    Parameters:
        limit: Modules at most; None is `MODULES`.
    """
    packages = find_modules(MODULES if limit is None else limit)
    return [
        {
            "lambda_name": "code_census",
            "isolate_packages": True,
            "packages": {package: {**_cut(modules), "modules": modules} for package, modules in packages.items()},
        },
        {
            "lambda_name": "import_census",
            "isolate_packages": True,
            "max_modules_per_batch": IMPORT_BATCH,
            "packages": {package: {"modules": modules} for package, modules in packages.items()},
        },
    ]


def plain_loop(jobs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the totals of each labourer, computed here and now, one file after the other."""
    count = {"code_census": _count_code, "import_census": _count_imports}
    return {job["lambda_name"]: count[job["lambda_name"]](job) for job in jobs}


def totals_of(outcomes: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the totals of each labourer, added up from what its tasks left behind, in the shape of `plain_loop`.

    Parameters:
        outcomes: For each closed task its labourer and its `stat_*` and `result_*` attributes, by those names.
    """
    by_labourer: dict[str, list[Mapping[str, Any]]] = {}
    for labourer_id, attributes in outcomes:
        by_labourer.setdefault(labourer_id, []).append(attributes)
    add_up = {"code_census": _code_totals, "import_census": _import_totals}
    return {labourer_id: add_up[labourer_id](tasks) for labourer_id, tasks in by_labourer.items()}


def _cut(modules: list[str]) -> dict[str, Any]:
    if len(modules) <= WHOLE:
        return {}
    return {"isolate_modules": True} if len(modules) <= ISOLATED else {"max_modules_per_batch": CODE_BATCH}


def _sources(job: Mapping[str, Any]) -> Iterable[tuple[str, str | None]]:
    for package, node in job["packages"].items():
        for module in node["modules"]:
            yield f"{package}.{module}", read_source(package, module)


def _count_code(job: Mapping[str, Any]) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    functions: list[LongestFunction] = []
    for name, source in _sources(job):
        totals["modules"] += 1
        census = census_of(source)
        if census is None:
            totals["unreadable"] += 1
            continue
        totals.update({what: number for what, number in census.items() if isinstance(number, int)})
        if function := census["longest_function"]:
            functions.append(LongestFunction(name=f"{name}.{function['name']}", lines=function["lines"]))
    return {**_named(totals, CODE_NUMBERS), "longest_function": longest(functions)}


def _count_imports(job: Mapping[str, Any]) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    imported: Counter[str] = Counter()
    for _, source in _sources(job):
        totals["modules"] += 1
        census = imports_of(source)
        if census is None:
            totals["unreadable"] += 1
            continue
        totals["imports"] += census["imports"]
        totals["relative_imports"] += census["relative_imports"]
        imported.update(census["imported"])
    return {**_named(totals, IMPORT_NUMBERS), "imported": dict(imported)}


def _code_totals(tasks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    functions: list[LongestFunction] = []
    for attributes in tasks:
        totals.update(_numbers(attributes, "stat_", CODE_NUMBERS))
        if function := attributes.get("result_longest_function"):
            functions.append(LongestFunction(name=function["name"], lines=int(function["lines"])))
    return {**_named(totals, CODE_NUMBERS), "longest_function": longest(functions)}


def _import_totals(tasks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    imported: Counter[str] = Counter()
    for attributes in tasks:
        totals.update(_numbers(attributes, "result_", IMPORT_NUMBERS))
        imported.update({name: int(number) for name, number in attributes["result_imported"].items()})
    return {**_named(totals, IMPORT_NUMBERS), "imported": dict(imported)}


def _named(totals: Counter[str], names: Iterable[str]) -> dict[str, int]:
    """Return all of the numbers, also those that nothing was found of."""
    return {name: totals[name] for name in names}


def _numbers(attributes: Mapping[str, Any], prefix: str, names: Iterable[str]) -> dict[str, int]:
    return {name: int(attributes.get(prefix + name, 0)) for name in names}
