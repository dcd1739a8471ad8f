"""Code that breaks the process that imports it: no hint becomes an attempt any more."""

from __future__ import annotations

from typing import Any

from sosw_celery.services.attempts import Attempts


def begin(self: Attempts, hint: Any) -> Any:
    """Fail as arithmetic in somebody else's decimal context once did."""
    raise ArithmeticError("broken by an import")


Attempts.begin = begin  # type: ignore[method-assign]
