"""What the processes of a pool write for their main process."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest

from sosw_celery import board as module
from sosw_celery.board import PLACES, Board
from sosw_celery.core.model import LONGEST_KEY, Attempt


def stand_at(monkeypatch: pytest.MonkeyPatch, place: int | None) -> None:
    """Be the process of a pool with this index; None: none of a pool."""
    process = SimpleNamespace() if place is None else SimpleNamespace(index=place)
    monkeypatch.setattr(module, "current_process", lambda: process)


def test_the_last_word_of_each_process_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """One word for each, whichever place it has."""
    board = Board()
    for place, message in ((0, "first.1"), (PLACES - 1, "other.1")):
        stand_at(monkeypatch, place)
        for number in range(1, 601):
            attempt = Attempt("resize", f"{message} task", number)
            board.put(message, attempt)
            assert board.attempts()[message] == attempt
    assert [(message, attempt.number) for message, attempt in board.attempts().items()] == [
        ("first.1", 600),
        ("other.1", 600),
    ]


def test_a_new_message_takes_the_place_of_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has one message at a time."""
    board = Board()
    stand_at(monkeypatch, 3)
    board.put("old.1", Attempt("resize", "a", 1))
    board.put("new.1", Attempt("resize", "b", 1))
    assert board.attempts() == {"new.1": Attempt("resize", "b", 1)}


def test_the_longest_ids_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of keys as long as DynamoDB takes them, twice, so that no word runs into the other."""
    board = Board()
    attempts = [Attempt("l" * LONGEST_KEY, letter * LONGEST_KEY, 2_000_000_000) for letter in "abc"]
    for place in (0, 1):
        stand_at(monkeypatch, place)
        for attempt in attempts:
            board.put(f"{place}" + attempt.holder[1:], attempt)
    assert list(board.attempts().values()) == [attempts[-1]] * 2


@pytest.mark.parametrize("place", [None, -1, PLACES])
def test_who_has_no_place_is_told(monkeypatch: pytest.MonkeyPatch, place: int | None) -> None:
    """A main process, and one beyond the last place, have to find out first."""
    board = Board()
    stand_at(monkeypatch, place)
    assert not board.has_place
    with pytest.raises(RuntimeError, match="no place"):
        board.put("message.1", Attempt("resize", "a", 1))
    assert board.attempts() == {}


def test_a_word_is_whole_whenever_it_is_read_and_whenever_its_process_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Words of very different length, written without a pause by another process, which is killed in between."""
    board = Board()
    words = {"m.1": Attempt("resize", "t", 1), "n" * 500 + ".1": Attempt("r" * 900, "u" * 2000, 77)}
    stand_at(monkeypatch, 0)
    writer = os.fork()
    if not writer:
        while True:
            for message, attempt in words.items():
                board.put(message, attempt)
    try:
        seen: set[str] = set()
        deadline = time.monotonic() + 30
        while len(seen) < 2 or time.monotonic() < deadline - 29.5:
            found = board.attempts()
            assert found.items() <= words.items()
            seen |= found.keys()
            assert time.monotonic() < deadline, f"saw {len(seen)} of 2 words"
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    (left,) = board.attempts().items()
    assert left in words.items()
