"""Parts of the system that a benchmark can leave out, to see what each of them pays.

The system itself has a switch for lines only. All other parts are replaced by what botocore does without them:
`configuration.py` does that in every process of a system under a benchmark, before a client is made there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sosw_celery.stores.dynamodb import client

__all__ = ["CODE", "PARTS", "VARIABLE", "settings_without", "take_out"]

#: Of the environment: names of parts, with commas between.
VARIABLE = "BENCHMARK_WITHOUT"


class Replacement(NamedTuple):
    """The arguments of `setattr` that leave a part out."""

    module: Any
    name: str
    value: Any


#: Parts that are code.
CODE: Mapping[str, Replacement] = {
    # Items read as they stand in the answer.
    "item_parser": Replacement(client, "read_items_as_they_stand", lambda client: None),
    # One text instead of one that is put together for each request.
    "user_agent": Replacement(client, "USER_AGENT", None),
}

#: Parts that the system's own settings switch off.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # A worker's process goes on with the next task without a message.
    "lines": {"line_s": 0},
}

PARTS = (*CODE, *SETTINGS)


def take_out(names: Iterable[str]) -> None:
    """Have clients that this process makes from now on do without these parts."""
    for name in names:
        if name in CODE:
            setattr(*CODE[name])


def settings_without(names: Iterable[str]) -> dict[str, Any]:
    """Return settings that switch off those of the parts that have one."""
    return {key: value for name in names for key, value in SETTINGS.get(name, {}).items()}
