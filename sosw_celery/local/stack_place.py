"""Where a local stack keeps its data, and how programs see that one may run there. Cheap: every program asks."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["DATA_DIR", "DATA_VARIABLE", "STATE_FILE", "data_dir", "may_run"]

#: Of `sosw-celery up`, in the directory where it is started, unless the variable names another place.
DATA_DIR = ".sosw"
DATA_VARIABLE = "SOSW_DATA"
#: What a stack tells about itself, in its directory.
STATE_FILE = "stack.json"


def data_dir() -> Path:
    """Return the directory of the stack that this process is to use where one runs there."""
    return Path(os.environ.get(DATA_VARIABLE) or DATA_DIR)


def may_run(directory: Path) -> bool:
    """Return whether a stack runs in the directory, or ran there once."""
    return (directory / STATE_FILE).is_file()
