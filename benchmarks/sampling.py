"""Looks at something at random times, while something else is measured."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["sampling"]


@contextmanager
def sampling(look: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call `look` in the background while the block runs, every so many seconds on average."""
    done = threading.Event()

    def keep_looking() -> None:
        while not done.wait(random.uniform(0, 2 * every_s)):
            look()

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
