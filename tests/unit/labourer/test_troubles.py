"""A process that fails for a reason of its own: it ends itself, and its node is told to be of no use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from celery.exceptions import Ignore
from celery.worker import state

from sosw_celery.errors import ContentRefused, InvalidJob, ItemCorrupt, StoreError, StoreUnavailable
from sosw_celery.labourer import troubles as module
from sosw_celery.labourer.troubles import MOST_IN_A_ROW, Troubles, look_at_process, note_failure, note_success
from sosw_celery.names import DISPATCH


@pytest.fixture
def troubles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Troubles]:
    """The failures of a process of its own, one of a pool."""
    fresh = Troubles()
    monkeypatch.setattr(module, "troubles", fresh)
    monkeypatch.setattr(module, "is_pool_process", lambda: True)
    yield fresh
    assert state.should_stop is None


def test_a_process_ends_when_all_that_it_takes_up_fails(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    """After five failures in a row, in one line that says by what; not after four, and not when one succeeded."""
    troubles.note(ArithmeticError("prec"))
    first_at = troubles.since
    assert first_at is not None
    for _ in range(MOST_IN_A_ROW - 2):
        troubles.note(ArithmeticError("prec"))
        troubles.end_if_broken()
    assert (troubles.in_a_row, troubles.since) == (MOST_IN_A_ROW - 1, first_at)
    troubles.clear()
    assert (troubles.in_a_row, troubles.since) == (0, None)
    for _ in range(MOST_IN_A_ROW):
        troubles.note(ArithmeticError("prec"))
    with pytest.raises(SystemExit) as ended:
        troubles.end_if_broken()
    assert ended.value.code == 1
    assert caplog.messages == ["process ends: it failed 5 times in a row, the last time by ArithmeticError"]
    assert troubles.in_a_row == MOST_IN_A_ROW  # until something gets on


def test_the_worker_is_shut_down_where_it_is_the_process(troubles: Troubles, monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads there is no process of a pool: the worker ends in good order, with an exit code of a failure."""
    monkeypatch.setattr(module, "is_pool_process", lambda: False)
    monkeypatch.setattr(state, "should_stop", None)
    for _ in range(MOST_IN_A_ROW):
        troubles.note(ArithmeticError("prec"))
    troubles.end_if_broken()
    assert state.should_stop == 1
    monkeypatch.setattr(state, "should_stop", None)


@pytest.mark.parametrize(
    "problem",
    [
        StoreUnavailable("redis", "confirm", "x"),
        ContentRefused("dynamodb", "UpdateItem", "ValidationException"),
        ItemCorrupt("dynamodb", "reading a row"),
        InvalidJob("job", "no"),
        Ignore(),
    ],
)
def test_what_others_are_to_blame_for_does_not_count(troubles: Troubles, problem: Exception) -> None:
    """Else a row that cannot be claimed, or a Redis that is away, would end processes."""
    for _ in range(MOST_IN_A_ROW):
        troubles.note(problem)
    troubles.end_if_broken()
    assert troubles.in_a_row == 0


def test_tasks_of_the_system_tell_whether_their_process_works(troubles: Troubles) -> None:
    """Theirs count, and no others'; what a store refused them is no fault of the process."""
    dispatch, other = SimpleNamespace(name=DISPATCH), SimpleNamespace(name="send_mail")
    for _ in range(MOST_IN_A_ROW):
        note_failure(sender=other, exception=TypeError())
        note_failure(sender=dispatch, exception=StoreError("dynamodb", "Query", "AccessDeniedException"))
        look_at_process(sender=dispatch)
    assert troubles.in_a_row == 0
    for _ in range(MOST_IN_A_ROW - 1):
        note_failure(sender=dispatch, exception=TypeError())
        look_at_process(sender=dispatch)
    note_success(sender=other)
    assert troubles.in_a_row == MOST_IN_A_ROW - 1
    note_failure(sender=dispatch, exception=TypeError())
    look_at_process(sender=other)
    with pytest.raises(SystemExit):
        look_at_process(sender=dispatch)
    note_success(sender=dispatch)
    assert troubles.in_a_row == 0


def test_other_processes_of_the_node_are_counted_with(troubles: Troubles) -> None:
    """The main process reads what those of its pool wrote; one of them that works makes the node one that works."""
    pid = os.fork()
    if pid == 0:
        troubles.note(TypeError())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert troubles.in_a_row == 1
    for _ in range(MOST_IN_A_ROW - 1):
        troubles.note(TypeError())
    troubles.end_if_broken()  # four are its own
    troubles.clear()
    assert troubles.in_a_row == 0
