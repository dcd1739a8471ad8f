"""Closes attempts on behalf of workers that could not do so themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sosw_celery.core.model import Attempt
from sosw_celery.errors import RetryLater, SoswError
from sosw_celery.services.attempts import Attempts, Outcome

__all__ = ["InvalidAction", "WorkerAssistant", "closing_message"]


class InvalidAction(SoswError, ValueError):
    """A message to the assistant names no action that it knows, or lacks a parameter."""


def closing_message(
    action: str, attempt: Attempt, outcome: Outcome, error: str = "", delay_s: float | None = None
) -> dict[str, Any]:
    """Return the message that asks the assistant to end an attempt."""
    return {
        "action": action,
        "task_id": attempt.task_id,
        "labourer_id": attempt.labourer_id,
        "attempt": attempt.number,
        "stats": dict(outcome.stats),
        "result": dict(outcome.result),
        "error": error,
        "delay_s": delay_s,
    }


class WorkerAssistant:
    """Carries out closing messages. Every action is fenced by the attempt, so a repeated message changes nothing.

    Source: the Lambda of this name in sosw; its actions have the same names.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._actions: dict[str, Callable[[Attempt, Outcome, Mapping[str, Any]], object]] = {
            "mark_task_as_completed": self._complete,
            "mark_task_as_failed": self._fail,
        }

    def handle(self, message: Mapping[str, Any]) -> None:
        """Do what a message asks.

        Raises:
            InvalidAction: It asks for nothing known, or lacks a parameter.
            StoreUnavailable: Try again later.
        """
        action = self._actions.get(str(message.get("action")))
        if action is None:
            known = ", ".join(sorted(self._actions))
            raise InvalidAction(f"action: expected one of {known}, got {message.get('action')!r}")
        attempt = Attempt(
            labourer_id=_parameter(message, "labourer_id", str),
            task_id=_parameter(message, "task_id", str),
            number=_parameter(message, "attempt", int),
        )
        outcome = Outcome(stats=message.get("stats") or {}, result=message.get("result") or {})
        action(attempt, outcome, message)

    def _complete(self, attempt: Attempt, outcome: Outcome, message: Mapping[str, Any]) -> None:
        self._attempts.complete(attempt, outcome)

    def _fail(self, attempt: Attempt, outcome: Outcome, message: Mapping[str, Any]) -> None:
        reason, delay_s = str(message.get("error") or "failed"), message.get("delay_s")
        error = reason if delay_s is None else RetryLater(float(delay_s), reason)
        self._attempts.fail(attempt, error, outcome)


def _parameter(message: Mapping[str, Any], name: str, kind: type) -> Any:
    value = message.get(name)
    if not isinstance(value, kind) or not value:
        raise InvalidAction(f"{name}: expected {'a text' if kind is str else 'a whole number'}, got {value!r}")
    return value
