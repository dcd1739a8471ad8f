"""What the system does to an app on which it is installed, and when: all of it, in order.

`sosw_celery.celery` calls these functions. It knows this module by its name alone, so that importing it loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery

from sosw_celery.celery import is_ours, place, stated_section
from sosw_celery.celery_fixes.log_privacy import keep_private, shown_arguments
from sosw_celery.celery_fixes.signing import AUTH, sign_messages
from sosw_celery.core.celery_message import SYSTEM_HEADER
from sosw_celery.errors import ConfigError
from sosw_celery.labourer.serving import our_names
from sosw_celery.labourer.worker import labourers
from sosw_celery.local.configuration import configured_for
from sosw_celery.node import close_signals, pool_process, shutdown
from sosw_celery.system import own_worker
from sosw_celery.system.beat import plan_with_ours
from sosw_celery.system.loading import MissingCode, Needed, missing_code, stack_here
from sosw_celery.system.registration import register_configured
from sosw_celery.system.remote import mask_replies, report_of
from sosw_celery.system.routes import define_queues, queue_of
from sosw_celery.system.steps import add_steps
from sosw_celery.system.tasks import add_tasks
from sosw_celery.wiring.container import settings_of

__all__ = ["configured", "finalized", "imported", "options_of", "report_of"]

#: Importing them connects their receivers, which pass over tasks that are not ours.
RECEIVERS = (close_signals, own_worker, pool_process, shutdown)

#: Settings that name servers, or fit those only that are named.
SERVERS = (
    *("broker_url", "broker_read_url", "broker_write_url", "broker_transport_options", "broker_use_ssl"),
    *("result_backend", "result_backend_transport_options", "redis_backend_use_ssl"),
)
#: Of Celery's two kinds of messages the one that has the task's name in its headers.
PROTOCOL = 2
#: Options of a message that say where it goes.
PLACES = frozenset({"queue", "exchange", "routing_key", "router"})


def configured(app: Celery) -> None:
    """Take up what the app's configuration says. What this raises Celery logs, and then nothing can be sent."""
    if not is_ours(app):  # whose loader has seen to that
        _use_stack(app)
    sign_messages(app)
    plan_with_ours(app)


def _use_stack(app: Celery) -> None:
    """Have the app use a local stack that runs here, in place of the servers that its configuration names."""
    stack = stack_here()
    if not stack:
        return
    stated = {name: app.conf[name] for name in SERVERS if app.conf.get(name)}
    placed = configured_for({**stated, "sosw": stated_section(app)}, stack)
    place(app, placed.pop("sosw"))
    nothing: dict[str, Any] = {name: {} if name.endswith("_options") else None for name in stated}
    app.conf.update({**nothing, **placed})


def finalized(app: Celery) -> None:
    """Give the app our tasks, and the labourers that are written as classes."""
    # What these raise Celery would log, and nodes that need it would start.
    try:
        add_tasks(app)
    except ConfigError as problem:
        missing_code(app).append(MissingCode(problem, Needed.BY_ALL))
    for labourer in labourers():
        try:
            labourer.register_on(app)
        except ConfigError as problem:
            missing_code(app).append(MissingCode(problem, labourer.name))


def imported(app: Celery) -> None:
    """Make this process one of ours, a worker or beat: not one of a program that only sends.

    Raises:
        ConfigError: The configuration of our own app is wrong. Another app may have a worker for its own tasks alone,
            which that does not end: `NeededCode` and beat tell who else needs it.
    """
    sign_messages(app)  # what it raised when the app was configured, Celery has logged and no more
    if is_ours(app):  # on another app's worker: where it serves ours, see `own_worker`
        keep_private()
    mask_replies()
    add_steps(app)
    try:
        register_configured(app)
        define_queues(app, our_names(app))
    except ConfigError as problem:
        if is_ours(app):
            raise
        missing_code(app).append(MissingCode(problem, Needed.BY_ALL))


def options_of(app: Celery, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which a task is sent: those that are given, for a task that is not ours.

    One of ours goes to its queue, says which system it comes from, and shows monitors the ids in its arguments and
    nothing else of them.
    """
    try:
        queue = queue_of(app, name)
    except ConfigError:
        if is_ours(app):
            raise
        queue = None  # a section that is wrong keeps nobody's own tasks from being sent
    if queue is None:
        return dict(options)
    if app.conf.task_protocol != PROTOCOL:
        expected = f"{PROTOCOL} where there are labourers: what is sent to them says in its headers what it is"
        raise ConfigError("task_protocol", app.conf.task_protocol, expected)
    headers = {SYSTEM_HEADER: settings_of(app).system, **(options.get("headers") or {})}
    define_queues(app, [queue])
    place = {} if PLACES & options.keys() else {"queue": queue}
    own = {"serializer": _serializer_of(app), "headers": headers}
    return {**place, **shown_arguments(args, kwargs), **options, **own}


def _serializer_of(app: Celery) -> str:
    """Return how our messages are written, whatever the app's own tasks use."""
    return AUTH if app.conf.task_serializer == AUTH else "json"
