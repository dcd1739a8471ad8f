"""The configurations that a Python file states, read from its text: no line of it is run.

What a Lambda's module would do when it is imported (clients, environment, packages that are not there) so does not
matter. Read are literals, names assigned before, arithmetic on them, f-strings, `dict(...)`, `**` and lookups in the
environment.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Constants", "Unreadable", "constants_of"]

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.BitOr: operator.or_,
}

#: Longest text or list that arithmetic may make.
LONGEST = 100_000


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value that only running the code would give."""

    text: str
    line: int


@dataclass(frozen=True)
class Constants:
    """The names that a file assigns.

    Parameters:
        values: Name, or `Class.NAME` for an attribute of a class, -> value; parts of it may be `Unreadable`.
        used: Names of which the value became a part of another name's value.
        imported: Names that the file takes from other modules.
    """

    values: Mapping[str, Any]
    used: frozenset[str]
    imported: frozenset[str]


def constants_of(source: str, environment: Mapping[str, str]) -> Constants:
    """Return what the text of a module assigns at its top level and in its classes.

    Raises:
        SyntaxError: It is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about code that is not ours, and is not run
        module = ast.parse(source)
    reader = _Reader(environment)
    for scope, name, value in _assignments(module, ""):
        reader.assign(scope, name, value)
    imports = [statement for statement in module.body if isinstance(statement, ast.ImportFrom)]
    imported = {alias.asname or alias.name for statement in imports for alias in statement.names}
    return Constants(reader.values, frozenset(reader.used), frozenset(imported))


def _assignments(node: ast.AST, scope: str) -> Iterator[tuple[str, str, ast.expr]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Assign):
            yield from ((scope, name.id, child.value) for name in child.targets if isinstance(name, ast.Name))
        elif isinstance(child, ast.AnnAssign) and child.value is not None and isinstance(child.target, ast.Name):
            yield scope, child.target.id, child.value
        elif isinstance(child, ast.ClassDef):
            yield from _assignments(child, f"{scope}{child.name}.")


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.values: dict[str, Any] = {}
        self.used: set[str] = set()
        self._scope = ""

    def assign(self, scope: str, name: str, value: ast.expr) -> None:
        self._scope = scope
        self.values[scope + name] = self.read(value)

    def read(self, node: ast.expr) -> Any:
        reader = getattr(self, f"_read_{type(node).__name__}", None)
        try:
            return reader(node) if reader else self._unreadable(node)
        except (_Stop, ArithmeticError, LookupError, TypeError, ValueError):
            return self._unreadable(node)

    def _whole(self, node: ast.expr) -> Any:
        """Return a value that another one is computed from."""
        value = self.read(node)
        if isinstance(value, Unreadable):
            raise _Stop
        return value

    @staticmethod
    def _unreadable(node: ast.expr) -> Unreadable:
        return Unreadable(ast.unparse(node), node.lineno)

    def _read_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def _read_List(self, node: ast.List) -> list[Any]:
        return [self.read(item) for item in node.elts]

    def _read_Tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.read(item) for item in node.elts)

    def _read_Set(self, node: ast.Set) -> set[Any]:
        return {self._whole(item) for item in node.elts}

    def _read_Dict(self, node: ast.Dict) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                found.update(self._whole(value))
            else:
                found[self._whole(key)] = self.read(value)
        return found

    def _read_Name(self, node: ast.Name) -> Any:
        for name in (self._scope + node.id, node.id):
            if name in self.values:
                self.used.add(name)
                return self.values[name]
        raise _Stop

    def _read_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self._whole(node.operand)
        if isinstance(node.op, ast.USub):
            return -value
        if isinstance(node.op, ast.Not):
            return not value
        raise _Stop

    def _read_BinOp(self, node: ast.BinOp) -> Any:
        left, right = self._whole(node.left), self._whole(node.right)
        if isinstance(node.op, ast.Mult):
            sizes = [len(value) if isinstance(value, (str, bytes, list, tuple)) else value for value in (left, right)]
            if abs(sizes[0] * sizes[1]) > LONGEST and not all(isinstance(v, (int, float)) for v in (left, right)):
                raise _Stop
        return _OPERATORS[type(node.op)](left, right)

    def _read_JoinedStr(self, node: ast.JoinedStr) -> str:
        return "".join(str(self._whole(part)) for part in node.values)

    def _read_FormattedValue(self, node: ast.FormattedValue) -> str:
        if node.format_spec is not None or node.conversion != -1:
            raise _Stop
        return str(self._whole(node.value))

    def _read_Subscript(self, node: ast.Subscript) -> Any:
        if ast.unparse(node.value) == "os.environ":
            return self._environment[self._whole(node.slice)]
        return self._whole(node.value)[self._whole(node.slice)]

    def _read_Call(self, node: ast.Call) -> Any:
        called = ast.unparse(node.func)
        arguments = [self._whole(argument) for argument in node.args]
        if called in ("os.environ.get", "os.getenv") and not node.keywords and 1 <= len(arguments) <= 2:
            return self._environment.get(arguments[0], *arguments[1:])
        if called == "dict" and not arguments and all(keyword.arg for keyword in node.keywords):
            return {str(keyword.arg): self.read(keyword.value) for keyword in node.keywords}
        raise _Stop


class _Stop(Exception):
    """The value cannot be read."""
