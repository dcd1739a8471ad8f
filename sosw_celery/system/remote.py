"""Answers to `celery inspect` and Flower that hold settings: with secrets masked.

Celery masks the broker's and the backend's address, and what has a secret's name in its own list. It knows nothing of
the dict `sosw`, nor of names that a configuration gives to an address before it uses it twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from celery import Celery
from celery.app.utils import Settings as CelerySettings
from celery.app.utils import bugreport
from celery.worker.control import Panel

from sosw_celery.celery import is_installed, is_ours
from sosw_celery.config.masking import masked, secrets_in

__all__ = ["mask_replies", "report_of"]

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
        return _without_secrets(state.app, told) if is_installed(state.app) else told

    setattr(masking, _ORIGINAL, command)
    return masking


def report_of(app: Celery) -> str:
    """Return what `celery report` prints, with secrets masked: in all settings of our own app, else in the section."""
    # Made of no more than is shown now, so that a later Celery cannot show more.
    shown: Any = SimpleNamespace(connection=app.connection, loader=app.loader)
    shown.conf = CelerySettings({}, [_without_secrets(app, app.conf.table()), {}])
    return bugreport(shown)


def _without_secrets(app: Celery, told: Any) -> Any:
    """Return what tells of the settings with their secrets masked.

    Of our own app by whatever names they stand in it; of another one in the section `sosw` alone.
    """
    if not is_ours(app):
        return {**told, "sosw": masked(told["sosw"])} if isinstance(told, Mapping) and "sosw" in told else told
    return masked(told, copies_of=frozenset(secrets_in(app.conf.table(censored=False))))
