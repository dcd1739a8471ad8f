"""Whose messages a worker takes: those of labourers and of the system, those of other tasks, or both."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from celery import Celery
from celery.app import app_or_default

from sosw_celery.celery import is_installed, section_of
from sosw_celery.config.settings import Settings
from sosw_celery.errors import ConfigError
from sosw_celery.labourer.worker import is_labourer
from sosw_celery.names import QUEUES
from sosw_celery.wiring.container import settings_of

__all__ = ["Serves", "asks_tables", "our_names", "our_queues", "serves", "serves_ours"]


class Serves(enum.Enum):
    """What the queues of a worker are for."""

    #: Labourers, and the system itself. All promises are kept.
    OURS = enum.auto()
    #: Other tasks, of which the system knows nothing: it does nothing there.
    THEIRS = enum.auto()
    #: Both: other tasks find the worker as it was without us, and slots may idle behind them.
    BOTH = enum.auto()


def our_names(app: Celery) -> set[str]:
    """Return the queues of the system and of the labourers, as far as a configuration that is wrong names them."""
    try:
        return {*QUEUES.values(), *settings_of(app).labourers}
    except ConfigError:
        return {*QUEUES.values(), *_stated_labourers(app)}


def _stated_labourers(app: Celery) -> list[str]:
    try:
        section = section_of(app)
    except ConfigError:  # it stands in two places
        return []
    labourers = section.get("labourers") if isinstance(section, Mapping) else None
    return [name for name in labourers if isinstance(name, str)] if isinstance(labourers, Mapping) else []


def our_queues(app: Celery) -> list[str]:
    """Return those of this worker's queues that are a labourer's or the system's; they are chosen by then."""
    known = our_names(app)
    return [queue for queue in app.amqp.queues.consume_from if queue in known or is_labourer(queue)]


def serves(app: Celery) -> Serves:
    """Return whose messages this worker takes."""
    ours = our_queues(app)
    if not ours:
        return Serves.THEIRS
    return Serves.OURS if len(ours) == len(app.amqp.queues.consume_from) else Serves.BOTH


def serves_ours(app: Celery | None = None) -> bool:
    """Return whether a worker of the app, by default that of this process, takes messages of ours at all."""
    app = app_or_default(app)
    return is_installed(app) and serves(app) is not Serves.THEIRS


def asks_tables(settings: Settings, queues: Iterable[str]) -> bool:
    """Return whether a worker of these queues has to do with DynamoDB: for a labourer of the assistant's it has not."""
    assisted = {name for name in settings.labourers if settings.labourer(name).through_assistant}
    return not assisted.issuperset(queues)
