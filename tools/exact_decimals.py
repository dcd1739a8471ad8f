"""A plugin of mypy: no operator of decimals in `sosw_celery`, because it would follow the thread's context.

The context is whoever's code ran last in the thread; see `sosw_celery/core/exact.py`. Comparisons are exact whatever it
says, but with a float.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from mypy.checker import TypeChecker
from mypy.plugin import MethodContext, Plugin
from mypy.types import Instance, Type, get_proper_type

DECIMAL = "decimal.Decimal."
OPERATORS = {
    f"__{prefix}{name}__"
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow")
    for prefix in ("", "r")
}
OTHERS = {"__neg__", "__pos__", "__abs__", "__round__", "quantize", "scaleb", "normalize", "sqrt", "fma", "compare"}
OTHERS |= {"to_integral", "to_integral_value", "to_integral_exact", "remainder_near", "max", "min"}
COMPARISONS = {"__lt__", "__le__", "__gt__", "__ge__"}
PACKAGE = "sosw_celery"


class ExactDecimals(Plugin):
    """Tells of what follows the thread's context."""

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        """Return what looks at a call of this method, or at its operator."""
        name = fullname.removeprefix(DECIMAL)
        if name == fullname:
            return None
        if name in OPERATORS | OTHERS:
            return _tell
        return _tell_of_floats if name in COMPARISONS else None


def _tell(context: MethodContext) -> Type:
    api = context.api
    if isinstance(api, TypeChecker) and PACKAGE in PurePath(api.path).parts:
        api.fail("Follows the thread's decimal context: use sosw_celery.core.exact.EXACT", context.context)
    return context.default_return_type


def _tell_of_floats(context: MethodContext) -> Type:
    compared = [get_proper_type(kind) for kinds in context.arg_types for kind in kinds]
    if any(isinstance(kind, Instance) and kind.type.fullname == "builtins.float" for kind in compared):
        return _tell(context)
    return context.default_return_type


def plugin(version: str) -> type[Plugin]:
    """Return the plugin, as mypy asks for it."""
    return ExactDecimals
