"""Keeps what jobs are about out of the log lines that Celery writes.

Celery shows the whole body of a message that it refuses, arguments of tasks in its debug lines, and what a task has
returned. Those lines stay, without these parts. The same goes for what travels with a record for handlers of one's own
(`record.data`), and for the copy of a task's arguments that each message carries for monitors.

Matches the texts of celery 5.7, which has no setting for it. Delete what a later one lets be set.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from celery.signals import after_setup_logger, after_setup_task_logger
from celery.worker.consumer import consumer

__all__ = ["keep_private", "shown_arguments"]

HIDDEN = "(not shown)"

#: Parts of what Celery's trace hands to the log.
PRIVATE = frozenset({"args", "kwargs", "return_value"})
#: Keys of our own messages that say what a message is about, and nothing of a job's content.
IDS = ("action", "task_id", "labourer_id", "attempt", "job_id", "part", "depth")

#: Celery's loggers of what becomes of tasks, and of what comes in.
TRACES, STRATEGIES = "celery.app.trace", "celery.worker.strategy"

IsPrivate = Callable[[str], bool]

#: A labourer's name; any other text may be a job.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,140}")

#: Libraries that write whole requests into their debug lines.
TALKATIVE = ("botocore", "boto3", "s3transfer", "urllib3")

#: What the consumer says of a message that it refuses -> what is said instead, with the error or without.
_UNREADABLE: str = vars(consumer)["MESSAGE_DECODE_ERROR"]
REFUSALS: dict[str, str] = {
    vars(consumer)["UNKNOWN_FORMAT"]: "message refused: it is not that of a task",
    vars(consumer)["UNKNOWN_TASK_ERROR"]: "message refused: no task %s here",
    vars(consumer)["INVALID_TASK_ERROR"]: "message refused: %s",
    _UNREADABLE: "message refused: its body cannot be read (%s)",
}


def keep_private(is_private: IsPrivate | None = None) -> None:
    """Have Celery's loggers hide what jobs are about, from now on and in every process that is forked. Idempotent.

    Parameters:
        is_private: Says by the name of a task whether what is logged of it is hidden, and nothing else is. None: of
            every task, of messages that are refused, and of beat's schedule: for a process of our own alone, because it
            changes the log of every app in the process.
    """
    global _is_private
    if is_private is not None:
        _is_private = is_private
        logging.getLogger(TRACES).addFilter(_hide_trace)
        logging.getLogger(STRATEGIES).addFilter(_hide_trace)
        return
    _is_private = _everything
    for name, hide in _HIDERS.items():
        logging.getLogger(name).addFilter(hide)
    after_setup_logger.connect(_quiet_libraries, weak=False)
    after_setup_task_logger.connect(_quiet_libraries, weak=False)


def _everything(_: str) -> bool:
    return True


_is_private: IsPrivate = _everything


def _hide_trace(record: logging.LogRecord) -> bool:
    """Hide arguments and results of tasks."""
    if isinstance(record.args, Mapping) and _is_private(str(record.args.get("name", ""))):
        shown = {key: HIDDEN if key in PRIVATE else value for key, value in record.args.items()}
        record.args = shown
        if hasattr(record, "data"):
            record.data = shown
    return True


def _hide_refused(record: logging.LogRecord) -> bool:
    """Say why a message was refused, without the message."""
    if record.msg in REFUSALS:
        record.msg, record.args = _refusal(str(record.msg), record.args)
        # Errors of decoding show what they could not decode.
        record.exc_info = record.exc_text = None
    return True


def _refusal(template: str, args: Any) -> tuple[str, tuple[str, ...]]:
    instead = REFUSALS[template]
    if "%s" not in instead:
        return instead, ()
    error = args[0] if isinstance(args, tuple) and args else None
    if template == _UNREADABLE:
        return instead, (type(error).__name__,)
    return instead, (str(error)[:200],)


def _hide_applied(record: logging.LogRecord) -> bool:
    """Hide what the pool is called with."""
    if isinstance(record.args, tuple) and "args:" in str(record.msg):
        record.args = (record.args[0], *(HIDDEN for _ in record.args[1:]))
    return True


def _hide_schedule(record: logging.LogRecord) -> bool:
    """Drop the line in which beat shows its whole schedule, scheduled jobs and all."""
    return not str(record.msg).startswith("Current schedule")


_HIDERS: dict[str, Callable[[logging.LogRecord], bool]] = {
    TRACES: _hide_trace,
    STRATEGIES: _hide_trace,
    "celery.worker.consumer.consumer": _hide_refused,
    "celery.pool": _hide_applied,
    "celery.beat": _hide_schedule,
}


def _quiet_libraries(**_: Any) -> None:
    for name in TALKATIVE:
        library = logging.getLogger(name)
        if library.level == logging.NOTSET:
            library.setLevel(logging.INFO)


def shown_arguments(args: Any, kwargs: Any) -> dict[str, str]:
    """Return the options of a message that are the copies of its arguments for logs and monitors: the ids in them."""
    arguments = args if isinstance(args, (list, tuple)) else ()
    names = kwargs if isinstance(kwargs, Mapping) else {}
    return {
        "argsrepr": f"({', '.join(_shown(argument) for argument in arguments)})",
        "kwargsrepr": repr({str(name): HIDDEN for name in names}),
    }


def _shown(argument: Any) -> str:
    if isinstance(argument, Mapping):
        inner = argument.get("sosw")
        source = inner if isinstance(inner, Mapping) else argument
        return repr({key: source[key] for key in IDS if isinstance(source.get(key), (str, int))})
    is_name = isinstance(argument, str) and NAME.fullmatch(argument)
    return repr(argument) if is_name or isinstance(argument, (int, bool)) else HIDDEN
