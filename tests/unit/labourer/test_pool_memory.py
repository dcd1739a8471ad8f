"""What the processes of a pool write for their main process."""

from __future__ import annotations

import math
import os
import signal
import time
from types import SimpleNamespace

import pytest

from sosw_celery.core.tasks.model import LONGEST_KEY, Attempt
from sosw_celery.labourer import pool_memory as module
from sosw_celery.labourer.pool_memory import PLACES, Board, Post, Stage

LIMIT_S = 300.0


def post_at(monkeypatch: pytest.MonkeyPatch, board: Board, place: int | None) -> Post:
    """Return the post of a process of the pool with this index; None: of none of a pool."""
    process = SimpleNamespace() if place is None else SimpleNamespace(index=place)
    monkeypatch.setattr(module, "current_process", lambda: process)
    post = Post(board)
    assert post.has_place is (place is not None and 0 <= place < PLACES)
    return post


def test_the_last_word_of_each_process_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """One word for each, whichever place it has."""
    board = Board()
    for place, message in ((0, "first.1"), (PLACES - 1, "other.1")):
        post = post_at(monkeypatch, board, place)
        for number in range(1, 601):
            attempt = Attempt("resize", f"{message} task", number)
            post.ask(message, attempt, LIMIT_S)
            found = board.of_message(message)
            assert found is not None
            assert (found.attempt, found.pid, found.place) == (attempt, os.getpid(), place)
    assert [(entry.message_id, entry.attempt.number) for entry in board.entries()] == [
        ("first.1", 600),
        ("other.1", 600),
    ]


def test_a_process_that_has_had_no_attempt_yet_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message of a process may be none of ours, or be passed on: its end tells nobody of an attempt."""
    board = Board()
    post = post_at(monkeypatch, board, 0)
    post.be_done()
    post.close(LIMIT_S)
    assert (list(board.entries()), board.at(0), board.of_message("")) == ([], None, None)
    post.ask("a.1", Attempt("resize", "a", 1), LIMIT_S)
    assert [entry.message_id for entry in board.entries()] == ["a.1"]


def test_each_stage_says_since_when_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a message with two tasks: each stage begins when it is said."""
    board, times = Board(), iter(range(100, 200))
    monkeypatch.setattr(module, "steady", lambda: float(next(times)))
    post = post_at(monkeypatch, board, 3)
    first, second = Attempt("resize", "a", 1), Attempt("resize", "b", 2)
    said = []
    for say in (
        lambda: post.ask("a.1", first, 300),
        lambda: post.make_ready(first, 99.5, 300),
        lambda: post.run(60, 50),
        lambda: post.close(900),
        lambda: post.close_and_take(second, 900),
        lambda: post.make_ready(second, 103.5, 300),
        lambda: post.run(60, math.inf),
        lambda: post.be_done(),
    ):
        say()
        (entry,) = board.entries()
        assert entry.stage is post.stage
        said.append((entry.stage, entry.attempt, entry.since, entry.limit_s, entry.soft_s, entry.slot_from))
    assert said == [
        (Stage.ASKING, first, 100, 300, math.inf, 0),
        (Stage.READYING, first, 101, 300, math.inf, 99.5),
        (Stage.RUNNING, first, 102, 60, 50, 99.5),
        (Stage.CLOSING, first, 103, 900, math.inf, 99.5),
        (Stage.CLOSING, second, 104, 900, math.inf, 99.5),
        (Stage.READYING, second, 105, 300, math.inf, 103.5),
        (Stage.RUNNING, second, 106, 60, math.inf, 103.5),
        (Stage.DONE, second, 107, math.inf, math.inf, 103.5),
    ]


def test_a_new_message_takes_the_place_of_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has one message at a time."""
    board = Board()
    post = post_at(monkeypatch, board, 3)
    post.ask("old.1", Attempt("resize", "a", 1), LIMIT_S)
    post.ask("new.1", Attempt("resize", "b", 1), LIMIT_S)
    assert board.of_message("old.1") is None
    found = board.of_message("new.1")
    assert found is not None
    assert found.attempt == Attempt("resize", "b", 1)


def test_of_a_message_that_came_twice_the_process_counts_that_has_it_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one dropped it."""
    board, attempt = Board(), Attempt("resize", "a", 1)
    for place in (0, 1, 2):
        post = post_at(monkeypatch, board, place)
        post.ask("a.1", attempt, LIMIT_S)
        if place != 1:
            post.be_done()
    found = board.of_message("a.1")
    assert found is not None
    assert found.place == 1


def test_the_longest_ids_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of keys as long as DynamoDB takes them, twice, so that no word runs into the other."""
    board = Board()
    attempts = [Attempt("l" * LONGEST_KEY, letter * LONGEST_KEY, 2_000_000_000) for letter in "abc"]
    for place in (0, 1):
        post = post_at(monkeypatch, board, place)
        for attempt in attempts:
            post.ask(f"{place}" + attempt.holder[1:], attempt, LIMIT_S)
    assert [entry.attempt for entry in board.entries()] == [attempts[-1]] * 2


@pytest.mark.parametrize("place", [None, -1, PLACES])
def test_who_has_no_place_says_nothing(monkeypatch: pytest.MonkeyPatch, place: int | None) -> None:
    """A main process, a thread of several, and a process beyond the last place: none is at anything."""
    board = Board()
    post = post_at(monkeypatch, board, place)
    post.ask("message.1", Attempt("resize", "a", 1), LIMIT_S)
    post.run(60, 50)
    assert post.stage is Stage.DONE
    assert list(board.entries()) == []


def test_a_word_is_whole_whenever_it_is_read_and_whenever_its_process_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Words of very different length, written without a pause by another process, which is killed in between."""
    board = Board()
    words = {"m.1": (Attempt("resize", "t", 1), 60.0), "n" * 500 + ".1": (Attempt("r" * 900, "u" * 2000, 77), 7.5)}
    post = post_at(monkeypatch, board, 0)
    writer = os.fork()
    if not writer:
        while True:
            for message, (attempt, limit_s) in words.items():
                post.ask(message, attempt, limit_s)
    try:
        seen: set[str] = set()
        deadline = time.monotonic() + 30
        while len(seen) < 2 or time.monotonic() < deadline - 29.5:
            for entry in board.entries():
                assert (entry.attempt, entry.limit_s) == words[entry.message_id]
                assert entry.pid == writer
                seen.add(entry.message_id)
            assert time.monotonic() < deadline, f"saw {len(seen)} of 2 words"
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    (left,) = board.entries()
    assert (left.attempt, left.limit_s) == words[left.message_id]
