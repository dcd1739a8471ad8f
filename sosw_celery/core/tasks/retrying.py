"""What becomes of a failed attempt: another one later, or the task is dead. Pure: the caller brings the chance."""

from __future__ import annotations

from dataclasses import dataclass

from sosw_celery.delays import LONGEST_DELAY_S

__all__ = ["Dead", "Retry", "RetryPolicy", "decide"]

#: 2 to this power already exceeds any sensible `backoff_max`; keeps the float from overflowing at high attempts.
MAX_EXPONENT = 63


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when a labourer's tasks are tried again.

    Parameters:
        max_attempts: Starts after which a failed task is dead.
        backoff_s: Seconds before the second attempt; doubled before each further one. 0 retries at once.
        backoff_max_s: Longest wait, seconds.
        jitter: Whether a wait is drawn between 0 and the backoff ("full jitter"), so that tasks that failed together
            do not come back together.
    """

    max_attempts: int
    backoff_s: float = 1.0
    backoff_max_s: float = 600.0
    jitter: bool = True


@dataclass(frozen=True)
class Retry:
    """Try again after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True)
class Dead:
    """Do not try again."""


def decide(policy: RetryPolicy, attempts: int, chance: float, wanted_delay_s: float | None = None) -> Retry | Dead:
    """Return what becomes of a task whose attempt number `attempts` failed.

    Parameters:
        attempts: Number of the failed attempt, from 1.
        chance: A random number from 0 up to 1, used where the policy has jitter.
        wanted_delay_s: A wait that the worker itself asked for; taken as it is, without jitter, up to ten years.

    Source: Celery's `retry_backoff`, `retry_backoff_max` and `retry_jitter`, with the same formula.
    """
    if attempts >= policy.max_attempts:
        return Dead()
    if wanted_delay_s is not None:
        return Retry(_bounded(wanted_delay_s))
    backoff = min(policy.backoff_s * 2 ** min(attempts - 1, MAX_EXPONENT), policy.backoff_max_s)
    return Retry(_bounded(backoff * chance if policy.jitter else backoff))


def _bounded(delay_s: float) -> float:
    """Return a wait that can be kept: a row that is due never, or at no time at all, would be in the others' way."""
    return float(min(max(delay_s, 0.0), LONGEST_DELAY_S)) if delay_s == delay_s else 0.0
