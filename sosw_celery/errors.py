"""Every error that sosw-celery raises on purpose, in one tree with `SoswError` at its root.

This module imports next to nothing of the project, so that every layer may raise these without a cycle. Each error
keeps its facts as attributes (nobody has to parse a text), takes them as positional arguments (so that it survives
pickling and Celery's JSON result backends), and reads as one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sosw_celery.clock import now
from sosw_celery.delays import Delay, seconds_until
from sosw_celery.text import excerpt

__all__ = [
    "ConfigError",
    "ContentRefused",
    "InvalidJob",
    "ItemCorrupt",
    "JobNotFound",
    "LambdaFailed",
    "LambdaThrottled",
    "RetryLater",
    "SiblingRefused",
    "SoswError",
    "StoreError",
    "StoreUnavailable",
    "TaskNotFound",
    "TransactionRefused",
    "TransitionRefused",
]


class SoswError(Exception):
    """Root of all errors of sosw-celery."""


class ConfigError(SoswError, ValueError):
    """A setting is wrong. Raised when the configuration is read, never later.

    Parameters:
        key: Where the setting stands, as a dotted path: `sosw.labourers.resize.duration`.
        value: What was found there.
        expected: What is expected, as a phrase: `a whole number of seconds, at least 1`.
    """

    def __init__(self, key: str, value: Any, expected: str) -> None:
        super().__init__(key, value, expected)
        self.key, self.value, self.expected = key, value, expected

    def __str__(self) -> str:
        return f"{self.key}: expected {self.expected}, got {excerpt(self.value)}"


class InvalidJob(SoswError, ValueError):
    """A job cannot become tasks. Nothing was written.

    Parameters:
        path: Where in the job, as a dotted path: `job.sections.weddings.stores`.
        problem: What is wrong and what is expected, as a phrase.
        value: What was found there, already cut to a readable length; empty when there is nothing to show.
    """

    def __init__(self, path: str, problem: str, value: str = "") -> None:
        super().__init__(path, problem, value)
        self.path, self.problem, self.value = path, problem, value

    def __str__(self) -> str:
        shown = f" (got {self.value})" if self.value else ""
        return f"{self.path}: {self.problem}{shown}"

    def __repr__(self) -> str:
        # For logs: without the value, which is whoever submitted the job's own.
        return f"InvalidJob({f'{self.path}: {self.problem}'!r})"


class TaskNotFound(SoswError, LookupError):
    """No table holds a task of this id."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"no task {self.task_id!r} in the tasks, retry or closed table"


class JobNotFound(SoswError, LookupError):
    """No job of this id was ever accepted."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"no job {self.job_id!r}"


class TransactionRefused(SoswError):
    """A transaction wrote nothing, because a condition of it failed. Stores turn it into what that means.

    Parameters:
        operation: What the transaction was for.
        codes: Per item of the transaction `ConditionalCheckFailed` where the cause is, or `None` as text.
    """

    def __init__(self, operation: str, codes: Sequence[str]) -> None:
        super().__init__(operation, tuple(codes))
        self.operation, self.codes = operation, tuple(codes)

    def __str__(self) -> str:
        return f"dynamodb: {self.operation} refused by a condition ({', '.join(self.codes)})"


class TransitionRefused(SoswError):
    """Somebody else moved the task on first. An ordinary outcome: log it at info level and go on.

    Parameters:
        task_id: The task.
        event: What was tried: `claim`, `complete`, `fail`, `retry`, `archive`.
        found: What the table held instead, as far as it is known.
    """

    def __init__(self, task_id: str, event: str, found: str = "another state") -> None:
        super().__init__(task_id, event, found)
        self.task_id, self.event, self.found = task_id, event, found

    def __str__(self) -> str:
        return f"task {self.task_id}: {self.event} refused, found {self.found}"


class SiblingRefused(SoswError):
    """A task or Scheduler may spawn no further sibling: its line is as long as `max_sibling_depth` allows.

    Parameters:
        who: The task or job that asked for a sibling.
        depth: How many siblings came before it in its line.
        limit: `max_sibling_depth`.
    """

    def __init__(self, who: str, depth: int, limit: int) -> None:
        super().__init__(who, depth, limit)
        self.who, self.depth, self.limit = who, depth, limit

    def __str__(self) -> str:
        return f"{self.who}: no further sibling, {self.depth} came before it and max_sibling_depth is {self.limit}"


class StoreError(SoswError):
    """A store (DynamoDB, Redis, S3, a directory) refused an operation or gave an answer that cannot be used.

    Parameters:
        store: Which one: `dynamodb`, `redis`, `s3`, `directory`.
        operation: What was asked of it.
        code: The vendor's error code, empty when there was none. The vendor's own error is chained as `__cause__`.
    """

    def __init__(self, store: str, operation: str, code: str = "") -> None:
        super().__init__(store, operation, code)
        self.store, self.operation, self.code = store, operation, code

    def __str__(self) -> str:
        return f"{self.store}: {self.operation} failed{f' ({self.code})' if self.code else ''}"


class StoreUnavailable(StoreError):
    """The store did not answer, or throttled the call after all retries.

    Whether a write took effect is unknown: repeat it, everything here is idempotent or conditional.
    """


class ContentRefused(StoreError):
    """The store will never take what it was given: too large an item, too long a key, a sum with what is no number.

    Trying again does not help; something of it has to be left out, or set aside.
    """


class ItemCorrupt(StoreError):
    """An item in a store cannot be read. Trying again does not help; it has to be set aside."""


class LambdaFailed(SoswError):
    """A Lambda function failed, cannot be run, or gave no answer in time.

    Parameters:
        kind: Type of the error that the function raised, or AWS's code.
        message: Its text.
        request_id: Of the invocation, for its log; empty when it is not known.
    """

    def __init__(self, kind: str, message: str, request_id: str = "") -> None:
        super().__init__(kind, message, request_id)
        self.kind, self.message, self.request_id = kind, message, request_id

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.kind, self.message) if part) or "the function failed without a word"
        return f"{text} (request {self.request_id})" if self.request_id else text


class LambdaThrottled(SoswError):
    """A Lambda function was not run, because it may not run now or Lambda cannot be reached. Nothing has happened.

    Parameters:
        after_s: Seconds after which Lambda wants to be asked again; None when it does not say.
        reason: What it said.
    """

    def __init__(self, after_s: float | None, reason: str) -> None:
        super().__init__(after_s, reason)
        self.after_s, self.reason = after_s, reason

    def __str__(self) -> str:
        return f"the Lambda function was not run ({self.reason})"


class RetryLater(SoswError):
    """Raise this in a worker to have the task retried; not a failure of the code.

    Parameters:
        delay_s: How long the task waits before it is put back into the queue: seconds (a number, or the text of one, as
            a `Retry-After` header has it), a timedelta, a datetime with a time zone, or the text of an HTTP date. What
            is past means at once; None leaves it to the labourer's backoff. Kept as seconds.
        reason: Kept on the task as its last error.

    Raises:
        ValueError: `delay_s` is none of these, or longer than ten years.
    """

    delay_s: float | None

    def __init__(self, delay_s: Delay | None = None, reason: str = "the worker asked for a retry") -> None:
        self.delay_s = None if delay_s is None else seconds_until(delay_s, float(now()), "RetryLater.delay_s")
        self.reason = reason
        super().__init__(self.delay_s, reason)

    def __str__(self) -> str:
        when = "after the usual backoff" if self.delay_s is None else f"in {self.delay_s:g} s"
        return f"{self.reason}; again {when}"
