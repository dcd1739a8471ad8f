"""A labourer whose runs end as their events say, in manners that Celery cannot tell of by itself."""

from __future__ import annotations

import asyncio
import decimal
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from sosw_celery import RetryLater, Worker


class Bound(ValueError):
    """An error that cannot be pickled: its constructor wants more than its text."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text, self.code = text, code
        self.made_by = lambda: code

    def __str__(self) -> str:
        return f"{self.text} [{self.code}]"


class Mute(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError("mute")


class Later(RetryLater):
    """A retry that cannot be pickled."""

    def __init__(self, answer: Any) -> None:
        super().__init__(0.05, "told so")
        self.answer = answer


class Ending(BaseException):
    """No `Exception`."""


class Unreadable(Mapping[str, Any]):
    """A result that raises when it is read."""

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("unreadable")

    def __len__(self) -> int:
        raise RuntimeError("unreadable")

    __repr__ = __iter__  # type: ignore[assignment]


class UnreadableDict(dict[str, Any]):
    """Such a dict: Celery asks it for its length to show it."""

    def __len__(self) -> int:
        raise RuntimeError("unreadable")


class Classless:
    """A result that raises when it is asked what it is, as a proxy of nothing does."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("of no class")


class Leaving:
    """A result whose text ends the process."""

    def __str__(self) -> str:
        sys.exit("no text")


def circle() -> list[Any]:
    """Return a list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


RESULTS: Mapping[str, Any] = {
    "pairs": {"pairs": {("a", "b"): 1}},
    "circle": circle(),
    "digits": 10**5000,
    "unreadable": Unreadable(),
    "unreadable dict": UnreadableDict(a=1),
    "set": {"names": {"a", "b"}},
    "classless": Classless(),
    "leaving": {"text": Leaving()},
    "forked": {"forked": 1},
}


def spoil_arithmetic() -> None:
    """Have decimals of this thread keep three digits, and what has more raise."""
    decimal.getcontext().prec = 3
    decimal.getcontext().traps[decimal.Inexact] = True


if "TEST_SOSW" in os.environ:
    spoil_arithmetic()  # where a process under test imports this; the tests import it too


class End(Worker):
    """Ends as its event says."""

    name = "end"

    def __call__(self, event: dict[str, Any]) -> Any:
        """Raise or return."""
        spoil_arithmetic()
        manner = event["manner"]
        self.stats["runs"] += 1
        if event["attempts"] > 1 or manner in RESULTS:
            self.stats[("of", "any", "key")] += 1
            if manner == "forked":
                os.fork()  # both return
            super().__call__(event)
            return RESULTS.get(manner)
        if manner == "exit":
            sys.exit("bad licence")
        if manner == "status":
            sys.exit(3)
        raise {
            "bound": lambda: Bound("no such price", 7),
            "mute": Mute,
            "later": lambda: Later(lambda: None),
            "base": lambda: Ending("over"),
            "cancelled": lambda: asyncio.CancelledError("no more"),
        }[manner]()
