"""A function of a user that wants to know of dead tasks: it writes each notice down."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any


def keep(notice: dict[str, Any]) -> None:
    """Write the notice into a file of its own."""
    path = os.path.join(os.environ["TEST_HISTORY"], f"{uuid.uuid4().hex}.notice")
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump(notice, file)
    os.rename(f"{path}.part", path)
