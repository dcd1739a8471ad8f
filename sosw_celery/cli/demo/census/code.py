"""A labourer that counts what modules are made of: lines, functions, classes and more, by `ast`.

Written as a class, as in sosw: `self.stats` adds up numbers, `self.result` keeps anything else; both are new for each
invocation. A task's payload names packages and modules: `{"packages": ["asyncio"], "modules": ["events", "tasks"]}`.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypedDict

from sosw_celery import Worker
from sosw_celery.cli.demo.census.sources import modules_of, parse, read_source

__all__ = ["CodeCensus", "ModuleCensus", "census_of"]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *FUNCTIONS)
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.IfExp, ast.BoolOp, ast.comprehension)


class LongestFunction(TypedDict):
    """The function with the most lines, and how many it has."""

    name: str
    lines: int


class ModuleCensus(TypedDict):
    """What one module is made of."""

    lines: int
    functions: int
    classes: int
    branches: int
    docstrings: int
    #: None in a module without functions.
    longest_function: LongestFunction | None


def census_of(source: str | None) -> ModuleCensus | None:
    """Return what a module's source is made of, methods and nested functions included; None when it is not Python."""
    tree = parse(source)
    if source is None or tree is None:
        return None
    nodes: dict[type[ast.AST], list[Any]] = defaultdict(list)
    for node in ast.walk(tree):
        nodes[type(node)].append(node)
    functions = [node for kind in FUNCTIONS for node in nodes[kind]]
    return ModuleCensus(
        lines=source.count("\n") + bool(source.rpartition("\n")[2]),  # the last line may lack its end
        functions=len(functions),
        classes=len(nodes[ast.ClassDef]),
        branches=sum(len(nodes[kind]) for kind in BRANCHES),
        docstrings=sum(bool(ast.get_docstring(node, clean=False)) for kind in DOCUMENTED for node in nodes[kind]),
        longest_function=longest([LongestFunction(name=node.name, lines=_length(node)) for node in functions]),
    )


def longest(functions: list[LongestFunction]) -> LongestFunction | None:
    """Return the longest one, of equally long ones the first by name; None of none."""
    return min(functions, key=lambda function: (-function["lines"], function["name"]), default=None)


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


class CodeCensus(Worker):
    """Counts what the modules of a task are made of."""

    name = "code_census"

    def __call__(self, event: Mapping[str, Any]) -> Any:
        """Leave the task's totals in `self.stats`, and its longest function in `self.result`."""
        found: list[LongestFunction] = []
        for package, module in modules_of(event):
            census = census_of(read_source(package, module))
            self._count(census)
            if census and (function := census["longest_function"]):
                found.append(LongestFunction(name=f"{package}.{module}.{function['name']}", lines=function["lines"]))
        self.result["longest_function"] = longest(found)
        return super().__call__(event)

    def _count(self, census: ModuleCensus | None) -> None:
        self.stats["modules"] += 1
        if census is None:
            self.stats["unreadable"] += 1
            return
        for what, number in census.items():
            if isinstance(number, int):
                self.stats[what] += number
