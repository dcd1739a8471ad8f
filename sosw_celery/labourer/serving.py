"""Whose messages a worker takes: those of labourers and of the system, those of other tasks, or both."""

from __future__ import annotations

import enum

from celery import Celery
from celery.app import app_or_default

from sosw_celery.celery import is_installed
from sosw_celery.labourer.worker import is_labourer
from sosw_celery.names import QUEUES
from sosw_celery.wiring.container import settings_of

__all__ = ["Serves", "our_queues", "serves", "serves_ours"]


class Serves(enum.Enum):
    """What the queues of a worker are for."""

    #: Labourers, and the system itself. All promises are kept.
    OURS = enum.auto()
    #: Other tasks, of which the system knows nothing: it does nothing there.
    THEIRS = enum.auto()
    #: Both: other tasks find the worker as it was without us, and slots may idle behind them.
    BOTH = enum.auto()


def our_queues(app: Celery) -> list[str]:
    """Return those of this worker's queues that are a labourer's or the system's; they are chosen by then."""
    known = {*QUEUES.values(), *settings_of(app).labourers}
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
