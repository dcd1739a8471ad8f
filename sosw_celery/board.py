"""What each process of a node's pool runs now, for the node's main process to read.

Celery's main process knows the message that a process has. A process that goes on with further tasks on account of the
same message (`lines.py`) writes here at which of them it is: in shared memory, inherited by the fork, with a place for
each process of the pool. A process that is killed leaves its last word behind, and that stays readable whenever the
kill came.
"""

from __future__ import annotations

import mmap
import struct

from billiard.process import current_process

from sosw_celery.core.model import LONGEST_KEY, Attempt

__all__ = ["Board", "board"]

#: Places, one for each process of a pool. Untouched ones take up no memory.
PLACES = 512
#: Of three texts of a word, of which the holder is the longest: a key and the number of the attempt.
WORD_BYTES = 4 * LONGEST_KEY
LENGTHS = struct.Struct("<HHH")
#: A place has room for two words, so that the valid one stays whole while the next one is written, and begins with the
#: turn: 0 before the first word, odd and even in turn after that. One byte, because that is written at once or not.
PLACE_BYTES = 1 + 2 * (LENGTHS.size + WORD_BYTES)
LAST_TURN = 254


class Board:
    """The places of one node."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, PLACES * PLACE_BYTES)

    @property
    def has_place(self) -> bool:
        """Whether this process is one of a pool, and not beyond the last place."""
        return self._start() is not None

    def put(self, message_id: str, attempt: Attempt) -> None:
        """Note what this process of the pool runs on account of the message it has."""
        start = self._start()
        if start is None:
            raise RuntimeError("board: this process has no place on it")
        texts = [text.encode() for text in (message_id, attempt.labourer_id, attempt.holder)]
        word = LENGTHS.pack(*map(len, texts)) + b"".join(texts)
        turn = self._shared[start] % LAST_TURN + 1
        at = _word_at(start, turn)
        self._shared[at : at + len(word)] = word
        self._shared[start] = turn

    def attempts(self) -> dict[str, Attempt]:
        """Return by message the attempt that its process is at, or was at in the end: for messages with more than one.

        What a process has written last stays until it writes anew, so a message that has ended may be among them.
        """
        words = (self._read(place * PLACE_BYTES) for place in range(PLACES))
        return dict(word for word in words if word is not None)

    def _read(self, start: int) -> tuple[str, Attempt] | None:
        while turn := self._shared[start]:
            at = _word_at(start, turn)
            lengths = LENGTHS.unpack_from(self._shared, at)
            at += LENGTHS.size
            texts = self._shared[at : at + sum(lengths)]
            if self._shared[start] == turn:  # else it may have been overwritten meanwhile
                break
        else:
            return None
        first, second = lengths[0], lengths[0] + lengths[1]
        message_id, labourer_id, holder = (texts[:first], texts[first:second], texts[second:])
        return message_id.decode(), Attempt.from_holder(labourer_id.decode(), holder.decode())

    @staticmethod
    def _start() -> int | None:
        # billiard's: the lowest that no other process of the pool has.
        place = getattr(current_process(), "index", None)
        return place * PLACE_BYTES if isinstance(place, int) and 0 <= place < PLACES else None


def _word_at(start: int, turn: int) -> int:
    return start + 1 + (turn % 2) * (LENGTHS.size + WORD_BYTES)


board = Board()
