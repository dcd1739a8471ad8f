"""What each process of a node's pool is at, for the node's main process to read.

Celery's main process knows the message that a process has, and nothing of what comes of it: since when the body runs,
which task of a line it is, whether it is through. Each process writes that here, into shared memory that is inherited
by the fork, with a place for each process of the pool. A process that is killed leaves its last word behind, and that
stays readable whenever the kill came.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import math
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from billiard.process import current_process

from sosw_celery.clock import steady
from sosw_celery.core.tasks.model import LONGEST_KEY, Attempt

__all__ = ["Board", "Entry", "Post", "Stage", "board", "here", "is_pool_process", "is_watched", "shared_numbers"]

#: Places, one for each process of a pool. Untouched ones take up no memory.
PLACES = 1024
#: Of the three texts of an entry, of which the holder is the longest: a key and the number of the attempt.
TEXT_BYTES = 4 * LONGEST_KEY
#: Process id, stage, four times, lengths of the texts.
HEAD = struct.Struct("<iB4dHHH")
#: A place has room for two entries, so that the valid one stays whole while the next one is written. Which one is valid
#: its turn says: 0 before the first entry, odd and even in turn after that. One byte, because that is written at once
#: or not. The turns of all places come first.
ENTRY_BYTES = HEAD.size + TEXT_BYTES
LAST_TURN = 254


class Stage(enum.IntEnum):
    """How far a process is with an attempt. In each but the first its node keeps the attempt's lease."""

    DONE = 0  # ended, or given up; nothing of it runs
    ASKING = 1  # for its slot and its task: it need not have a lease yet
    READYING = 2  # it has both; the labourer is made ready for its body
    RUNNING = 3  # the body
    CLOSING = 4  # the body is through
    WAITING = 5  # after READYING: the body waits for the rate

    @property
    def needs_lease(self) -> bool:
        """Whether the process has to end when the lease is gone."""
        return self in (Stage.READYING, Stage.WAITING, Stage.RUNNING)


@dataclass(frozen=True)
class Entry:
    """What a process of the pool is at.

    Parameters:
        message_id: Of the message that the process has; an attempt further down a line has none of its own.
        since: Steady time at which the stage began.
        limit_s: Seconds that the stage may take.
        soft_s: Seconds after which a body is told to end; infinity: never.
        slot_from: Steady time before the slot was asked for.
        pid, place: The process, and where it writes.
    """

    message_id: str
    attempt: Attempt
    stage: Stage
    since: float
    limit_s: float
    soft_s: float = math.inf
    slot_from: float = 0.0
    pid: int = 0
    place: int = 0


def shared_numbers(count: int) -> Sequence[ctypes.c_double]:
    """Return numbers that this process shares with all that it forks from now on; each is 0 at first.

    A machine reads and writes one in one piece, so no lock is needed.
    """
    size = ctypes.sizeof(ctypes.c_double)
    shared = mmap.mmap(-1, count * size)
    return [ctypes.c_double.from_buffer(shared, index * size) for index in range(count)]


#: Not 0 while each task takes a message: because somebody follows the events of this node's tasks, or because it was
#: asked to end. Set by its main process.
is_watched = shared_numbers(1)[0]


def is_pool_process() -> bool:
    """Return whether this is a process of a pool."""
    return _place() is not None


class Board:
    """The places of one node."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, PLACES * (1 + 2 * ENTRY_BYTES))

    def put(self, place: int, word: bytes) -> None:
        """Note at a place, which one process has to itself, what that one is at."""
        turn = self._shared[place] % LAST_TURN + 1
        at = _entry_at(place, turn)
        self._shared[at : at + len(word)] = word
        self._shared[place] = turn

    def entries(self) -> Iterator[Entry]:
        """Yield what each process is at, or was at in the end, each as it stands when it is asked for."""
        for place in itertools.compress(range(PLACES), self._shared[:PLACES]):
            entry = self.at(place)
            if entry is not None:
                yield entry

    def of_message(self, message_id: str) -> Entry | None:
        """Return what the process is at that has this message, or had it last."""
        found = [entry for entry in self.entries() if entry.message_id == message_id]
        # Two, when the message came twice: one of them has nothing of it any more.
        return max(found, key=lambda entry: (entry.stage is not Stage.DONE, entry.since), default=None)

    def at(self, place: int) -> Entry | None:
        """Return what the process at a place is at; None if none was ever there."""
        while turn := self._shared[place]:
            at = _entry_at(place, turn)
            pid, stage, since, limit_s, soft_s, slot_from, *lengths = HEAD.unpack_from(self._shared, at)
            at += HEAD.size
            texts = self._shared[at : at + sum(lengths)]
            if self._shared[place] == turn:  # else it may have been overwritten meanwhile
                break
        else:
            return None
        first, second = lengths[0], lengths[0] + lengths[1]
        message_id, labourer_id, holder = (texts[:first], texts[first:second], texts[second:])
        attempt = Attempt.from_holder(labourer_id.decode(), holder.decode())
        return Entry(message_id.decode(), attempt, Stage(stage), since, limit_s, soft_s, slot_from, pid, place)


class Post:
    """This process's own side of the board: says what it is at. Where there is no place for it, nothing is said.

    Stages count from the call; limits are seconds.
    """

    def __init__(self, of: Board) -> None:
        self._board = of
        self._pid = 0
        self._place: int | None = None
        self._message_id = ""
        self._texts, self._lengths = b"", (0, 0, 0)
        #: How far this process is with its attempt; done when it has none, or no place.
        self.stage = Stage.DONE
        #: Steady time before the slot of its attempt was asked for.
        self.slot_from = 0.0

    @property
    def has_place(self) -> bool:
        """Whether this process is one of a pool, and not beyond the last place."""
        if self._pid != os.getpid():
            place = _place()
            self._pid, self._place = os.getpid(), place if place is not None and 0 <= place < PLACES else None
        return self._place is not None

    def ask(self, message_id: str, attempt: Attempt, limit_s: float) -> None:
        """Say that a message came in, and slot and task of its attempt are asked for."""
        self._message_id = message_id
        self._take(attempt)
        self._say(Stage.ASKING, limit_s)

    def make_ready(self, attempt: Attempt, slot_from: float, limit_s: float) -> None:
        """Say that the attempt, of this message or further down its line, has a slot since then and its task."""
        self._take(attempt)
        self.slot_from = slot_from
        self._say(Stage.READYING, limit_s)

    def wait(self) -> None:
        """Say that the body waits for the rate, for as long as it takes."""
        self._say(Stage.WAITING, math.inf)

    def run(self, limit_s: float, soft_s: float) -> None:
        """Say that the body begins."""
        self._say(Stage.RUNNING, limit_s, soft_s)

    def close(self, limit_s: float) -> None:
        """Say that the body is through."""
        self._say(Stage.CLOSING, limit_s)

    def close_and_take(self, attempt: Attempt, limit_s: float) -> None:
        """Say that the process has this attempt's lease now, at the end of the one before."""
        self._take(attempt)
        self._say(Stage.CLOSING, limit_s)

    def be_done(self) -> None:
        """Say that all is over."""
        self._say(Stage.DONE, math.inf)

    def _take(self, attempt: Attempt) -> None:
        texts = [text.encode() for text in (self._message_id, attempt.labourer_id, attempt.holder)]
        self._texts, self._lengths = b"".join(texts), (len(texts[0]), len(texts[1]), len(texts[2]))

    def _say(self, stage: Stage, limit_s: float, soft_s: float = math.inf) -> None:
        # A process that has had no attempt yet is at none, also when a message that was refused has ended in it.
        if not self.has_place or self._place is None or not self._texts:
            return
        self.stage = stage
        head = HEAD.pack(self._pid, stage, steady(), limit_s, soft_s, self.slot_from, *self._lengths)
        self._board.put(self._place, head + self._texts)


def _place() -> int | None:
    # billiard's: the lowest that no other process of the pool has.
    place = getattr(current_process(), "index", None)
    return place if isinstance(place, int) else None


def _entry_at(place: int, turn: int) -> int:
    return PLACES + (2 * place + turn % 2) * ENTRY_BYTES


board = Board()
here = Post(board)
