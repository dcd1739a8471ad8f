"""Configurations laid over each other."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

__all__ = ["merged_deeply"]


def merged_deeply(*configs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configurations as one: dict by dict, and for anything else the last one that states it.

    A list replaces a list. Nothing of the result is shared with the arguments.

    Source: sosw's `recursive_update`, which joins lists instead.
    """
    together: dict[str, Any] = {}
    for config in configs:
        for key, value in config.items():
            before = together.get(key)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                together[key] = merged_deeply(before, value)
            else:
                together[key] = copy.deepcopy(value)
    return together
