"""Waiting for a condition, in place of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["wait_for"]

POLL_S = 0.05


def wait_for(
    condition: Callable[[], object],
    timeout_s: float,
    what: str,
    *,
    poll_s: float = POLL_S,
    why: Callable[[], str] = lambda: "",
) -> None:
    """Wait until the condition holds.

    Parameters:
        what: What is waited for, for the message.
        why: Says more about why it did not come, such as the ends of logs.

    Raises:
        TimeoutError: It does not within the time.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s\n{why()}".rstrip())
        time.sleep(poll_s)
