"""Whose turn it is to sweep, in Redis: of each labourer, and of the jobs, one process at a time, and how far it came.

| key                 | holds                                                        | until                          |
| ------------------- | ------------------------------------------------------------ | ------------------------------ |
| `PREFIX:turn:NAME`  | `asked`: somebody was asked to sweep; else who is at it      | it ends, or runs out by itself |
| `PREFIX:place:NAME` | from where the next sweep reads on; none: from the beginning | the next one                   |

Sweeps are idempotent: two at once do no harm, they only do everything twice. So a turn that runs out under somebody who
was held up is no danger, and all of this can be lost.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

from redis import Redis

from sosw_celery.core.isolation import each_by_itself
from sosw_celery.stores.redis.errors import translated
from sosw_celery.stores.redis.replies import decoded

__all__ = ["Turn", "Turns"]

#: Seconds that a mark can last at most.
LONGEST_S = 3600.0
#: Names in one call.
NAMES_PER_CALL = 500


@dataclass(frozen=True)
class Turn:
    """A turn that somebody has: of what, and under which name."""

    name: str
    owner: str


class Turns:
    """The turns of one configuration. Safe to share between threads.

    Every method raises `StoreUnavailable` when Redis does not answer.

    Parameters:
        prefix: Of its keys.
    """

    def __init__(self, redis_client: Redis, *, prefix: str) -> None:
        self._redis = redis_client
        self._prefix = prefix
        folder = resources.files("sosw_celery.stores.redis") / "lua"
        self._ask, self._begin, self._end = (
            redis_client.register_script((folder / f"turn_{name}.lua").read_text(encoding="utf-8"))
            for name in ("ask", "begin", "end")
        )

    def ask(self, names: Sequence[str], seconds: float) -> list[str]:
        """Return those of the names for which the caller is the one to ask for a sweep.

        They are not asked for again before one has begun, or these seconds are over (then the message was lost), nor
        while one is under way.
        """
        answers: list[int] = []
        with translated("ask"):
            for start in range(0, len(names), NAMES_PER_CALL):
                pipeline = self._redis.pipeline(transaction=False)
                for name in names[start : start + NAMES_PER_CALL]:
                    self._ask([self._key(name)], [_ms(seconds), _ms(LONGEST_S)], pipeline)
                answers += pipeline.execute()
        return [name for name, answer in zip(names, answers, strict=True) if answer]

    def ask_each(self, names: Sequence[str], seconds: float, send: Callable[[str], None]) -> None:
        """Send a message for each of the names for which that is due, as `ask` says.

        One that cannot be sent is due again at once, and keeps no other from being sent; its error is raised then.
        """
        with each_by_itself("messages") as steps:
            for name in self.ask(names, seconds):
                with steps.step(name):
                    try:
                        send(name)
                    except Exception:
                        self.take_back(name)
                        raise

    def take_back(self, name: str) -> None:
        """Note that what was asked for is not on its way any more; nothing if it has begun."""
        self.end(Turn(name, "asked"))

    def begin(self, name: str, seconds: float) -> Turn | None:
        """Return the turn to sweep, for so many seconds; None while another one has it."""
        turn = Turn(name, secrets.token_hex(8))
        return turn if self.keep(turn, seconds) else None

    def keep(self, turn: Turn, seconds: float) -> bool:
        """Have the turn for so many seconds from now; return whether it is the caller's still."""
        with translated("turn"):
            return bool(self._begin([self._key(turn.name)], [turn.owner, _ms(seconds), _ms(LONGEST_S)]))

    def end(self, turn: Turn, rest_s: float = 0.0) -> None:
        """Give the turn back.

        Parameters:
            rest_s: Seconds in which nobody else gets it.
        """
        with translated("end"):
            self._end([self._key(turn.name)], [turn.owner, _ms(rest_s)])

    def place(self, name: str) -> str:
        """Return the place that was kept under this name; empty when there is none."""
        with translated("place"):
            kept = self._redis.get(self._place_key(name))
        return decoded(kept or "")

    def keep_place(self, name: str, place: str) -> None:
        """Keep a place for the next one; an empty one is the beginning."""
        with translated("keep place"):
            if place:
                self._redis.set(self._place_key(name), place)
            else:
                self._redis.delete(self._place_key(name))

    def _key(self, name: str) -> str:
        return f"{self._prefix}:turn:{name}"

    def _place_key(self, name: str) -> str:
        return f"{self._prefix}:place:{name}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
