"""The Celery tasks of the system itself, called in this process."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sosw_celery import app
from sosw_celery.errors import StoreError, StoreUnavailable
from sosw_celery.names import WORKER_ASSISTANT
from sosw_celery.services.worker_assistant import HELD_S, InvalidAction, wait_after
from sosw_celery.system import tasks

ASSISTANT: Any = app.tasks[WORKER_ASSISTANT]
REFUSED = StoreError("dynamodb", "UpdateItem", "ExpiredTokenException")


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Exception]], list[Any]]:
    """Has the assistant meet these errors, one in each try, and returns what it was asked to do."""

    def meet(errors: list[Exception]) -> list[Any]:
        asked: list[Any] = []

        def handle(message: Any) -> None:
            asked.append(message)
            if len(asked) <= len(errors):
                raise errors[len(asked) - 1]

        services = SimpleNamespace(worker_assistant=SimpleNamespace(handle=handle))
        monkeypatch.setattr(tasks, "services_of", lambda app: services)
        monkeypatch.setattr(ASSISTANT, "store_errors_even_if_ignored", False)  # there is no backend
        return asked

    return meet


@pytest.mark.parametrize(
    "problem",
    [REFUSED, StoreError("dynamodb", "GetItem", "AccessDeniedException"), StoreUnavailable("redis", "release", "x")],
    ids=["token", "rights", "away"],
)
def test_a_close_that_a_store_refuses_is_tried_again(handled: Any, problem: StoreError) -> None:
    """What is refused now may be let through when somebody has put it right: the message is not dropped."""
    asked = handled([problem] * 3)
    assert ASSISTANT.apply(({"n": 1},)).state == "SUCCESS"
    assert asked == [{"n": 1}] * 4


def test_a_close_that_is_refused_for_good_is_told(handled: Any, caplog: pytest.LogCaptureFixture) -> None:
    """When the slot is held no more, the task has been found without its lease: it runs again."""
    asked = handled([REFUSED] * 100)
    answer = ASSISTANT.apply(({"n": 1},))
    assert isinstance(answer.result, StoreError)
    assert 20 < len(asked) < 30
    assert "not closed, the task is run again: dynamodb: UpdateItem failed (ExpiredTokenException)" in caplog.text


def test_a_message_that_is_none_is_not_tried_again(handled: Any) -> None:
    """It would be none the next time as well."""
    asked = handled([InvalidAction("action: expected another one")])
    assert isinstance(ASSISTANT.apply((5,)).result, InvalidAction)
    assert asked == [5]


def test_the_waits_of_the_assistant_last_as_long_as_the_slot_is_held() -> None:
    """Even if each is the shortest; a store that does not answer is waited for without an end."""
    waits = []
    while (wait_s := wait_after(REFUSED, len(waits))) is not None:
        waits.append(wait_s)
    assert waits[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert HELD_S <= sum(waits) / 2 < HELD_S + 30
    assert wait_after(StoreUnavailable("redis", "release", "x"), 5000) == 30
