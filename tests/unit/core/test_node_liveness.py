"""What a node's last note tells of it, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sosw_celery.core.node_liveness import Pulse, judge, noticed_waiting

LIMIT_S = 60.0
NOW = 1000.0

#: A node in perfect health, started long ago.
WELL = Pulse(
    node="resize@host",
    pid=7,
    queues=("resize",),
    capacity=4,
    busy=1,
    accepted=12,
    written_at=NOW,
    turned_at=NOW - 3,
    renewed_at=NOW - 3,
    lease_s=20,
    broker_since=NOW - 900,
    redis_since=NOW - 900,
)

LONG_AGO = NOW - 61


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "all is well"),
        ({"busy": 4, "waiting_since": {}}, "busy with long tasks"),
        ({"turned_at": NOW - 59}, "the loop is slow, within the limit"),
        ({"turned_at": NOW - 500, "broker_since": None}, "the broker is away, so the loop stands still"),
        ({"turned_at": NOW - 500, "broker_since": NOW - 30}, "the broker has just come back"),
        ({"waiting_since": {"resize": NOW - 59}}, "messages wait, not for long"),
        ({"waiting_since": {"resize": LONG_AGO}, "broker_since": None}, "nobody can take messages from a lost broker"),
        ({"renewed_at": NOW - 500, "redis_since": None}, "leases cannot be renewed without Redis"),
        ({"renewed_at": NOW - 500, "redis_since": NOW - 30}, "Redis has just come back"),
        ({"renewed_at": NOW - 70, "lease_s": 120}, "leases that last longer"),
        ({"failed_in_a_row": 99, "failing_since": NOW - 59}, "its processes fail, not for long"),
        ({"failed_in_a_row": 4, "failing_since": LONG_AGO}, "few failures, and nothing to do since"),
        ({"is_stopping": True, "turned_at": LONG_AGO, "waiting_since": {"resize": LONG_AGO}}, "it finishes what runs"),
    ],
)
def test_a_node_is_left_alone(changes: dict[str, object], reason: str) -> None:
    """Nothing that a restart would not cure, or that has not lasted, makes a node count as dead."""
    assert judge(replace(WELL, **changes), NOW, LIMIT_S).problems == (), reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"written_at": LONG_AGO, "turned_at": LONG_AGO - 1}, "no sign of life for 61 s"),
        ({"written_at": LONG_AGO, "is_stopping": True}, "no sign of life for 61 s"),
        ({"turned_at": LONG_AGO}, "event loop has not turned for 61 s"),
        ({"turned_at": NOW - 500, "broker_since": LONG_AGO}, "event loop has not turned for 61 s"),
        ({"waiting_since": {"resize": LONG_AGO}}, "messages wait on resize for 61 s, 3 of 4 processes are free"),
        (
            {"failed_in_a_row": 12, "failing_since": LONG_AGO},
            "fail before they do anything, 12 times in a row for 61 s",
        ),
        ({"renewed_at": LONG_AGO}, "leases have not been renewed for 61 s"),
        ({"renewed_at": NOW - 121, "lease_s": 120}, "leases have not been renewed for 121 s"),
    ],
)
def test_a_node_that_does_nothing_counts_as_dead(changes: dict[str, object], words: str) -> None:
    """Each way of being there without working is a problem, in words."""
    (problem,) = judge(replace(WELL, **changes), NOW, LIMIT_S).problems
    assert words in problem


def test_servers_that_do_not_answer_are_told_and_no_problem() -> None:
    """A node without its broker and Redis is alive; the remarks say why it does nothing."""
    verdict = judge(replace(WELL, broker_since=None, redis_since=None), NOW, LIMIT_S)
    assert verdict.is_alive
    assert [remark.split(" does")[0] for remark in verdict.remarks] == ["the broker", "the Redis of the slots"]


def test_messages_wait_from_the_first_look_that_finds_them_until_one_is_taken_up() -> None:
    """The time counts on while messages are there and the idle node takes nothing up, and begins anew after that."""
    first = noticed_waiting({}, {"a": 3, "b": 0}, 10.0, takes_nothing=True)
    assert first == {"a": 10.0}
    later = noticed_waiting(first, {"a": 9, "b": 1}, 15.0, takes_nothing=True)
    assert later == {"a": 10.0, "b": 15.0}
    assert noticed_waiting(later, {"a": 0, "b": 1}, 20.0, takes_nothing=True) == {"b": 15.0}
    assert noticed_waiting(later, {"a": 9, "b": 1}, 20.0, takes_nothing=False) == {}


def test_a_pulse_comes_back_from_its_text() -> None:
    """What is written into the file is what is read from it."""
    pulse = replace(WELL, waiting_since={"resize": 1.5}, broker_since=None)
    assert Pulse.from_text(pulse.as_text()) == pulse


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"node": "a"}', "\x00"])
def test_what_is_no_pulse_is_refused(text: str) -> None:
    """A file that somebody else wrote, or an older version, is not taken for a pulse."""
    with pytest.raises(ValueError, match=r"Expecting value|expected the pulse"):
        Pulse.from_text(text)
