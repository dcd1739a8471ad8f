"""Whose messages a worker takes."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from sosw_celery import Worker
from sosw_celery.labourer.serving import Serves, our_queues, serves, serves_ours
from tests.apps import theirs


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        (["mails"], Serves.THEIRS),
        (["resize"], Serves.OURS),
        (["sosw_scheduler", "resize"], Serves.OURS),
        (["unlisted"], Serves.OURS),
        (["mails", "resize"], Serves.BOTH),
    ],
)
def test_a_worker_serves_what_its_queues_are_for(
    monkeypatch: pytest.MonkeyPatch, queues: list[str], expected: Serves
) -> None:
    """Labourers, with an entry in the configuration or with code alone, the system, and others."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}})

    @app.task(base=Worker, name="unlisted")
    def unlisted(event: object) -> None: ...

    app.amqp.queues.select(queues)
    assert serves(app) is expected
    assert serves_ours(app) is (expected is not Serves.THEIRS)
    assert set(our_queues(app)) == set(queues) - {"mails"}


def test_an_app_without_the_system_serves_none_of_ours() -> None:
    """Whatever its queues are called."""
    app = Celery("plain", broker="memory://", set_as_current=False)
    app.amqp.queues.select(["sosw_scheduler"])
    assert not serves_ours(app)


@pytest.mark.parametrize(
    ("section", "ours"),
    [
        ({"labourers": {"shred": {"duration": "long"}, 5: {}}}, ["shred"]),
        ({"labourerz": {"shred": {}}}, []),
        ({"labourers": ["shred"]}, []),
    ],
)
def test_a_wrong_section_says_whose_queues_are_ours_as_far_as_it_can(
    monkeypatch: pytest.MonkeyPatch, section: Any, ours: list[str]
) -> None:
    """So a worker that is for others alone is not taken for one of ours, nor the other way round."""
    app = theirs(monkeypatch, section)
    app.amqp.queues.select(["mails", "shred", "sosw_scheduler"])
    assert our_queues(app) == [*ours, "sosw_scheduler"]


def test_a_section_in_two_places_names_no_labourer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of them would be meant is not known."""
    app = theirs(monkeypatch, {"labourers": {"shred": {}}})
    app.conf.sosw = {"labourers": {"cut": {}}}
    app.amqp.queues.select(["shred", "cut", "sosw_scheduler"])
    assert our_queues(app) == ["sosw_scheduler"]
