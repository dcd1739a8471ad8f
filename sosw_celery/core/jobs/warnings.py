"""Warnings about a job: for what is legal, but hardly what its author meant. The job runs all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum

from sosw_celery.core.jobs.payload import Path, show_path
from sosw_celery.text import did_you_mean

__all__ = ["MAX_NOTES", "Note", "Notes"]

#: Different warnings that one job can cause; the others are only counted.
MAX_NOTES = 20


class Note(Enum):
    """What a job can be warned of; each speaks of one word of the job."""

    STRAY_FLAG = "`{}` names no level of the schema, it is kept and does nothing"
    INNER_FLAG = "`{}` does nothing inside a value of its own level, it belongs further out"
    NO_VALUES = "no `{}` here to be split, one task is made of what there is"
    NOTHING_SPLIT = "no `{}` anywhere to be split, the job becomes one task"
    NO_DAYS = "`{}` finds no days (no period, st_date with en_date, or date_list), it does nothing"
    OTHER_LABOURER = "`{}` names another labourer than lambda_name, which is the one that counts"


class Notes:
    """Warnings of one job, each kept once for all places of the same shape, so that a million nodes make one line.

    Two places have the same shape when they are at the same levels: `job.topics.birds` and `job.topics.rivers`.

    Parameters:
        known_words: What a stray flag may have been meant to be.
    """

    def __init__(self, known_words: Sequence[str]) -> None:
        self._known_words = known_words
        self._places: Counter[tuple[Note, str, tuple[str, ...]]] = Counter()
        self._first: dict[tuple[Note, str, tuple[str, ...]], Path] = {}
        self._others = 0

    def add(self, note: Note, word: str, path: Path) -> None:
        """Remember a warning about a word of the node at this path."""
        key = (note, word, _shape(path))
        if key not in self._first:
            if len(self._first) == MAX_NOTES:
                self._others += 1
                return
            self._first[key] = path
        self._places[key] += 1

    def report(self, warn: Callable[[str], None]) -> None:
        """Say each warning in a line, with the first of its places and the number of them."""
        for (note, word, shape), path in self._first.items():
            hint = did_you_mean(word, self._known_words) if note is Note.STRAY_FLAG else ""
            count = self._places[note, word, shape]
            more = f" (and {count - 1} more places)" if count > 1 else ""
            warn(f"{show_path(path)}: {note.value.format(word)}{hint}{more}")
        if self._others:
            warn(f"job: {self._others} more warnings")


def _shape(path: Path) -> tuple[str, ...]:
    keys = []
    while path is not None:
        path, key, _ = path
        keys.append(key)
    return tuple(keys)
