"""Finds what the configuration names by a dotted path: `my_module:name`.

Every path of a configuration is resolved here: classes of labourers and of their clients, `scheduler_class`, functions
of periods, of metrics and of notices. Its module may stand in the working directory, as those of Celery's `imports`
may; or beside the configuration of our own app, where `importable_beside` sees to that.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType
from typing import Any

from celery.utils import imports

from sosw_celery.errors import ConfigError

__all__ = ["found_at", "importable_beside", "reason_of"]


def found_at(key: str, place: str, expected: str) -> Any:
    """Return what stands at `my_module:name`, its module imported.

    Parameters:
        key: Where the configuration says so, as a dotted path.
        expected: What should stand there, as a phrase: `a function that can be imported`.

    Raises:
        ConfigError: The module has no such name, or cannot be imported, for whatever reason, which is chained.
    """
    module, _, name = place.partition(":")
    try:
        return getattr(imports.import_from_cwd(module), name)
    except (Exception, SystemExit) as problem:  # modules are code, and can fail in any way
        raise ConfigError(key, place, f"{expected} ({reason_of(problem)})") from problem


def importable_beside(module: ModuleType) -> None:
    """Have the modules beside this one importable from now on, in this process and in those that are forked.

    Celery's loader looks into the working directory for as long as it imports a module of its own `imports`, no longer;
    and a console script does not have that directory on its path.
    """
    file = getattr(module, "__file__", None)
    if not file:
        return
    directory = os.path.dirname(os.path.abspath(file))
    for _ in range(module.__name__.count(".") + hasattr(module, "__path__")):
        directory = os.path.dirname(directory)
    if directory not in sys.path:
        sys.path.insert(0, directory)


def reason_of(problem: BaseException) -> str:
    """Return in one line what an import raised, and in which line of which file where that is not said yet."""
    text = " ".join(f"{type(problem).__name__}: {problem}".rstrip(": ").split())
    frames = traceback.extract_tb(problem.__traceback__)
    raised_in = [frame for frame in frames if not frame.filename.startswith("<") and frame.filename not in OUR_FRAMES]
    if isinstance(problem, SyntaxError) or not raised_in:
        return text
    return f"{text}, at {os.path.basename(raised_in[-1].filename)} line {raised_in[-1].lineno}"


#: Files that are on the way to any import.
OUR_FRAMES = frozenset({__file__, importlib.__file__, imports.__file__})
