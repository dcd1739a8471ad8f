"""Answers to `celery inspect` and Flower that hold settings: with secrets masked.

Celery masks the broker's and the backend's address, and what has a secret's name in its own list. It knows nothing of
the dict `sosw`, nor of names that a configuration gives to an address before it uses it twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery.worker.control import Panel

from sosw_celery.celery import SoswCelery

__all__ = ["mask_replies"]

#: What tells of settings; `dump_conf` is the old name of `conf`. The text of `report` is masked where it is made.
TELLING = ("conf", "dump_conf", "stats")

_ORIGINAL = "_sosw_original"


def mask_replies() -> None:
    """Have workers of this process mask what they tell of their settings. Idempotent."""
    for name in TELLING:
        command = Panel.data[name]
        if not hasattr(command, _ORIGINAL):
            Panel.data[name] = _masking(command)


def _masking(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def masking(state: Any, *args: Any, **kwargs: Any) -> Any:
        told = command(state, *args, **kwargs)
        return state.app.without_secrets(told) if isinstance(state.app, SoswCelery) else told

    setattr(masking, _ORIGINAL, command)
    return masking
