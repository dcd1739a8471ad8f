"""The steps that a worker node of ours takes beside Celery's."""

from __future__ import annotations

from celery import Celery

from sosw_celery.celery_fixes.fork_locks import LocksOutliveForks
from sosw_celery.celery_fixes.reconnect import CallsOutliveConnection
from sosw_celery.node.event_watch import EventWatch
from sosw_celery.node.heartbeat import Heartbeat
from sosw_celery.node.lease_keeper import LeaseKeeper
from sosw_celery.node.limits import LimitKeeper
from sosw_celery.node.pool_keeper import PoolKeeper
from sosw_celery.node.step import NodeStep
from sosw_celery.system.loading import NeededCode
from sosw_celery.system.start_checks import StartChecks

__all__ = ["STEPS", "add_steps"]


class CallsOutlive(NodeStep, CallsOutliveConnection):
    """Not in a worker that serves none of ours."""


class LocksOutlive(NodeStep, LocksOutliveForks):
    """Not in a worker that serves none of ours."""


STEPS = (
    NeededCode,
    CallsOutlive,
    LocksOutlive,
    EventWatch,
    LeaseKeeper,
    LimitKeeper,
    PoolKeeper,
    Heartbeat,
    StartChecks,
)


def add_steps(app: Celery) -> None:
    """Have the workers of the app take them."""
    app.steps["worker"].update(STEPS)
