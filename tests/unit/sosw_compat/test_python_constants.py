"""Configurations are read out of Python files without running them."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from sosw_celery.sosw_compat.python_constants import Unreadable, constants_of

ENVIRONMENT = {"STAGE": "test"}


def value_of(expression: str, before: str = "") -> Any:
    """Return what is read of an expression."""
    return constants_of(f"{before}\nvalue = {expression}", ENVIRONMENT).values["value"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("{'a': [1, (2.5, None)], 'b': {True}}", {"a": [1, (2.5, None)], "b": {True}}),
        ("-3 * 60 + 1 // 1", -179),
        ("'a' + 'b' * 2", "abb"),
        ("[0] * 3", [0, 0, 0]),
        ("{'a': 1} | {'b': 2}", {"a": 1, "b": 2}),
        ("{**{'a': 1}, 'b': 2}", {"a": 1, "b": 2}),
        ("dict(a=1, b=known)", {"a": 1, "b": 7}),
        ("f'{known}-x'", "7-x"),
        ("known", 7),
        ("listed[1]['a']", 5),
        ("not known", False),
        ("os.environ['STAGE']", "test"),
        ("os.environ.get('STAGE', 'prod')", "test"),
        ("os.getenv('NOTHING', 'prod')", "prod"),
        ("os.environ.get('NOTHING')", None),
    ],
)
def test_values_are_read(expression: str, value: Any) -> None:
    """Literals, names, arithmetic, f-strings and the environment."""
    assert value_of(expression, "known = 7\nlisted = [1, {'a': 5}]") == value


@pytest.mark.parametrize(
    "expression",
    [
        "get_config('x')",
        "unknown",
        "os.environ['NOTHING']",
        "f'{known:>3}'",
        "1 / 0",
        "'a' - 1",
        "[0] * 1000000000",
        "dict(*known)",
        "lambda: 1",
        "~known",
        "{unknown: 1}",
        "{**unknown}",
        "known[0]",
    ],
)
def test_what_only_running_would_tell_is_marked(expression: str) -> None:
    """It is not guessed, and it stops nothing else."""
    found = constants_of(f"known = 7\nvalue = {expression}\nafter = 1", ENVIRONMENT).values
    assert found["value"] == Unreadable(ast.unparse(ast.parse(expression, mode="eval")), 2)
    assert found["after"] == 1


def test_a_part_that_cannot_be_read_spoils_that_part_only() -> None:
    """The rest of a dict is read."""
    assert value_of("{'a': 1, 'b': call()}") == {"a": 1, "b": Unreadable("call()", 2)}


def test_classes_have_names_of_their_own() -> None:
    """An attribute of a class is found under the class, and sees what stands before it, there and outside."""
    source = "A = 1\nclass P:\n    B: int = A + 1\n    class Q:\n        C = A\n    DEFAULT_CONFIG = {'b': B}\n"
    found = constants_of(source, {})
    assert found.values == {"A": 1, "P.B": 2, "P.Q.C": 1, "P.DEFAULT_CONFIG": {"b": 2}}
    assert found.used == {"A", "P.B"}


def test_imports_are_told() -> None:
    """A name that comes from elsewhere is known to be there."""
    assert constants_of("from a import sosw, b as c", {}).imported == {"sosw", "c"}
