"""Closes attempts on behalf of workers that could not do so themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sosw_celery.core.tasks.model import Attempt
from sosw_celery.core.tasks.siblings import Sibling
from sosw_celery.errors import RetryLater, SoswError, StoreError, StoreUnavailable, TransitionRefused
from sosw_celery.services.attempts import Attempts, Outcome
from sosw_celery.services.siblings import Siblings
from sosw_celery.stores.dynamodb.attributes import attributes_of_text, attributes_text
from sosw_celery.text import kind_of

__all__ = ["HELD_S", "InvalidAction", "WorkerAssistant", "closing_message", "wait_after"]

logger = logging.getLogger(__name__)

COMPLETED, FAILED = "mark_task_as_completed", "mark_task_as_failed"


#: Seconds that the slot of an attempt is held for the assistant to close it.
HELD_S = 300.0
#: Longest wait between two tries to do what a message asks, seconds.
LONGEST_WAIT_S = 30.0


class InvalidAction(SoswError, ValueError):
    """A message to the assistant names no action that it knows, or lacks a parameter."""


def closing_message(
    action: str,
    attempt: Attempt,
    outcome: Outcome,
    error: str = "",
    delay_s: float | None = None,
    *,
    job_id: str = "",
    siblings: Sequence[Sibling] = (),
    keep_slot: bool = False,
) -> dict[str, Any]:
    """Return the message that asks the assistant to end an attempt.

    Parameters:
        error: Why it failed.
        delay_s: Seconds until it is tried again; None leaves it to the labourer's backoff.
        siblings: To be queued first, as tasks of the job.
        keep_slot: Close only: the body goes on, and a second message without this follows when it has ended.
    """
    return {
        "action": action,
        "task_id": attempt.task_id,
        "labourer_id": attempt.labourer_id,
        "attempt": attempt.number,
        "outcome": attributes_text(outcome.attributes()),
        "error": error,
        "delay_s": delay_s,
        "job_id": job_id,
        "siblings": [sibling.as_message() for sibling in siblings],
        "keep_slot": keep_slot,
    }


class WorkerAssistant:
    """Carries out closing messages. Every action is fenced by the attempt, so a repeated message changes nothing.

    | action | parameters | also taken |
    | --- | --- | --- |
    | `mark_task_as_completed` | `labourer_id`, `task_id`, `attempt` | `stats`, `result`, `siblings`, `keep_slot` |
    | `mark_task_as_failed` | `labourer_id`, `task_id`, `attempt` | `stats`, `result`, `siblings`, `error`, `delay_s` |

    Our workers send `outcome` instead of `stats` and `result`: the attributes of the row as the JSON of DynamoDB in one
    text, which says all that a table can keep, and which no reader of the message takes for anything else.

    Source: the Lambda of this name in sosw; its actions have the same names.
    """

    def __init__(self, attempts: Attempts, siblings: Siblings) -> None:
        self._attempts = attempts
        self._siblings = siblings
        self._actions: dict[str, Callable[[Attempt, Outcome, Mapping[str, Any]], object]] = {
            COMPLETED: self._complete,
            FAILED: self._fail,
        }

    def handle(self, message: Mapping[str, Any]) -> None:
        """Do what a message asks.

        Raises:
            InvalidAction: It asks for nothing known, or lacks a parameter, or one is not what it should be.
            StoreError: Try again after `wait_after`.
        """
        if not isinstance(message, Mapping):
            raise InvalidAction(f"message: expected an object with an action, got {kind_of(message)}")
        action = self._actions.get(str(message.get("action")))
        if action is None:
            known = ", ".join(sorted(self._actions))
            raise InvalidAction(f"action: expected one of {known}, got {kind_of(message.get('action'))}")
        attempt = Attempt(
            labourer_id=_parameter(message, "labourer_id", str),
            task_id=_parameter(message, "task_id", str),
            number=_parameter(message, "attempt", int),
        )
        outcome = _outcome(message)
        self._spawn(attempt, message)
        action(attempt, outcome, message)

    def _spawn(self, attempt: Attempt, message: Mapping[str, Any]) -> None:
        try:
            siblings = [Sibling.from_message(sibling) for sibling in message.get("siblings") or ()]
        except (TypeError, ValueError) as problem:
            raise InvalidAction(f"siblings: {problem}") from problem
        try:
            for sibling in siblings:
                self._siblings.spawn(attempt, str(message.get("job_id") or ""), sibling)
        except TransitionRefused as refused:  # the attempt was closed by this message before, or given up
            logger.info("siblings not spawned: %s", refused)

    def _complete(self, attempt: Attempt, outcome: Outcome, message: Mapping[str, Any]) -> None:
        self._attempts.complete(attempt, outcome, keep_slot=message.get("keep_slot") is True)

    def _fail(self, attempt: Attempt, outcome: Outcome, message: Mapping[str, Any]) -> None:
        reason, delay_s = str(message.get("error") or "failed"), message.get("delay_s")
        if delay_s is not None and not isinstance(delay_s, (int, float)):
            raise InvalidAction(f"delay_s: expected seconds, got {kind_of(delay_s)}")
        try:
            wanted_s = None if delay_s is None else RetryLater(delay_s).delay_s
        except ValueError as problem:  # asked for by a worker of another version: the attempt has ended all the same
            wanted_s, reason = None, f"{reason} ({problem})"
        self._attempts.fail(attempt, reason, outcome, wanted_s)


def wait_after(problem: StoreError, tries: int) -> float | None:
    """Return the seconds until a message is tried again that a store did not let through; None: not any more.

    A store that does not answer is waited for. What one refuses (expired or missing rights, a missing table) somebody
    may put right while the slot is held; after that the task has been found without a lease, and runs again.

    Parameters:
        tries: Tries before this one.
    """
    # Drawn from the upper half each, so that messages that were sent together part.
    least_waited_s = sum(map(_wait_s, range(tries))) / 2
    if isinstance(problem, StoreUnavailable) or least_waited_s < HELD_S:
        logger.warning("not closed yet, trying again: %s", problem)
        return _wait_s(tries)
    logger.error("not closed, the task is run again: %s", problem)
    return None


def _wait_s(tries: int) -> float:
    return min(2.0 ** min(tries, 5), LONGEST_WAIT_S)


def _parameter(message: Mapping[str, Any], name: str, kind: type) -> Any:
    value = message.get(name)
    if not isinstance(value, kind) or not value or isinstance(value, bool):
        raise InvalidAction(f"{name}: expected {'a text' if kind is str else 'a whole number'}, got {kind_of(value)}")
    return value


def _outcome(message: Mapping[str, Any]) -> Outcome:
    """Return what the attempt leaves: as our workers write it, or as `stats` and `result` of whoever else sends."""
    text, stats, result = message.get("outcome"), _mapping(message, "stats"), _mapping(message, "result")
    if text is None:
        return Outcome(stats, result)
    if not isinstance(text, str):
        raise InvalidAction(f"outcome: expected a text, got {kind_of(text)}")
    try:
        return Outcome.of(attributes_of_text(text))
    except ValueError as problem:
        raise InvalidAction(f"outcome: {problem}") from problem


def _mapping(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = message.get(name) or {}
    if not isinstance(value, Mapping):
        raise InvalidAction(f"{name}: expected an object, got {kind_of(value)}")
    return value
