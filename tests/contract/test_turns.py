"""Whose turn it is to sweep, on the twin and on the real server."""

from __future__ import annotations

import pytest
import redis

from sosw_celery.stores.redis.turns import LONGEST_S, Turn, Turns


@pytest.fixture
def turns(slots_redis: redis.Redis) -> Turns:
    """Turns that nobody has."""
    return Turns(slots_redis, prefix="sosw")


def test_one_has_the_turn_and_the_next_one_gets_it_when_it_ends(turns: Turns) -> None:
    """Of several that begin one does; of other names the turns are others."""
    turn = turns.begin("resize", 20)
    assert turn is not None
    assert turns.begin("resize", 20) is None
    assert turns.begin("other", 20) is not None
    assert turns.keep(turn, 20)
    turns.end(Turn("resize", "somebody else"))
    assert turns.begin("resize", 20) is None
    turns.end(turn)
    assert turns.begin("resize", 20) is not None


def test_a_turn_ends_by_itself(turns: Turns, slots_redis: redis.Redis) -> None:
    """When its process has died; who wakes up late has lost it."""
    turn = turns.begin("resize", 20)
    assert turn is not None
    assert 19_000 < slots_redis.pttl("sosw:turn:resize") <= 20_000
    slots_redis.delete("sosw:turn:resize")  # twenty seconds later
    assert turns.begin("resize", 20) is not None
    assert not turns.keep(turn, 20)
    turns.end(turn, 5)
    assert slots_redis.pttl("sosw:turn:resize") > 5_000


def test_nobody_gets_a_turn_that_rests(turns: Turns, slots_redis: redis.Redis) -> None:
    """Who ends it may leave it alone for some seconds."""
    turn = turns.begin("resize", 20)
    assert turn is not None
    turns.end(turn, 5)
    assert turns.begin("resize", 20) is None
    assert turns.ask(["resize"], 60) == []
    assert 0 < slots_redis.pttl("sosw:turn:resize") <= 5_000


def test_each_is_asked_for_once_until_it_begins_or_time_is_up(turns: Turns, slots_redis: redis.Redis) -> None:
    """Of any number at once; who is asked can begin, and while it is under way nobody else is asked."""
    names = [f"resize-{number}" for number in range(1200)]
    assert turns.ask(names, 60) == names
    assert turns.ask([*names[:3], "other"], 60) == ["other"]
    turn = turns.begin("resize-1", 20)
    assert turn is not None
    assert turns.ask(["resize-1"], 60) == []
    turns.end(turn)
    turns.take_back("resize-2")
    slots_redis.delete("sosw:turn:resize-3")  # a minute later
    assert turns.ask(names[:5], 60) == ["resize-1", "resize-2", "resize-3"]
    assert turns.ask([], 60) == []


def test_what_a_clock_that_went_back_left_behind_holds_nobody_up(turns: Turns, slots_redis: redis.Redis) -> None:
    """A mark that would last longer than any can is none."""
    for name in ("asked", "begun"):
        slots_redis.set(
            f"sosw:turn:{name}", "asked" if name == "asked" else "somebody", px=int(LONGEST_S * 1000) + 9000
        )
    assert turns.ask(["asked"], 60) == ["asked"]
    assert turns.begin("begun", 20) is not None


def test_a_place_is_kept_for_the_next_one(turns: Turns) -> None:
    """Until it is replaced; an empty one is the beginning."""
    assert turns.place("#jobs") == ""
    turns.keep_place("#jobs", '{"a": "ü"}')
    assert turns.place("#jobs") == '{"a": "ü"}'
    turns.keep_place("#jobs", "")
    assert turns.place("#jobs") == ""
