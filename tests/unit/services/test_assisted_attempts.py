"""Attempts of labourers whose workers have no access to the tables, and the assistant that writes for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.core.tasks.siblings import Sibling
from sosw_celery.errors import TransitionRefused
from sosw_celery.services.assisted_attempts import AssistedAttempts
from sosw_celery.services.attempts import Outcome
from sosw_celery.services.siblings import Siblings
from sosw_celery.services.worker_assistant import COMPLETED, FAILED, InvalidAction, WorkerAssistant, closing_message

System = Any


class Assisted:
    """A system whose one labourer closes through the assistant."""

    def __init__(self, make_system: Callable[..., System]) -> None:
        entry = {"max_simultaneous_invocations": 2, "close_through": "assistant"}
        self.system = make_system(labourers={"resize": entry})
        self.worker = AssistedAttempts(self.system.settings, self.system.slots, messenger=self.system)
        self.siblings = Siblings(
            self.system.settings,
            self.system.task_table,
            messenger=self.system,
            clock=lambda: self.system.now,
        )
        self.assistant = WorkerAssistant(self.system.attempts, self.siblings)

    def hand_out(self, count: int = 1, **fields: Any) -> list[Hint]:
        """Queue tasks, and return the hints of those that were handed out, as they arrive at workers."""
        self.system.queue(count, **fields)
        self.system.orchestrator.dispatch("resize")
        return self.arrived()

    def arrived(self) -> list[Hint]:
        """Return the hints that were published since the last look, as workers get them."""
        hints = [Hint.from_message(hint.as_message()) for hint in self.system.hints]
        self.system.hints.clear()
        return [hint for hint in hints if hint is not None]

    def task(self, task_id: str = "task-001") -> Any:
        """Return a row, wherever it is."""
        return self.system.task_table.find(task_id, ["resize"]).task

    def used(self) -> tuple[int, int]:
        """Return how many slots are pending and running."""
        usage = self.system.slots.look("resize")
        return usage.pending, usage.running


@pytest.fixture
def assisted(make_system: Callable[..., System]) -> Assisted:
    """A system whose labourer `resize` has two slots and closes through the assistant."""
    return Assisted(make_system)


def test_a_task_is_claimed_when_it_is_handed_out_and_runs_by_its_hint_alone(assisted: Assisted) -> None:
    """As many as there are slots are claimed; the event is in the hint; the assistant ends them and hands out more."""
    first, second = assisted.hand_out(3, payload='{"images": [1]}', job_id="job-1")
    assert [assisted.task(f"task-00{number}").attempts for number in (1, 2, 3)] == [1, 1, 0]
    assert assisted.used() == (2, 0)
    run = assisted.worker.begin(first)
    assert run is not None
    ids = {"task_id": "task-001", "labourer_id": "resize", "job_id": "job-1", "attempts": 1}
    assert run.event() == {**ids, "images": [1]}
    assert assisted.used() == (1, 1)
    assisted.assistant.handle(closing_message(COMPLETED, run.attempt, Outcome(stats={"n": 1})))
    assert assisted.task().extra["stat_n"] == 1
    assert [hint.attempt.task_id for hint in assisted.arrived()] == ["task-003"]
    assert assisted.used() == (2, 0)
    assert second.attempt == Attempt("resize", "task-002", 1)


def test_a_worker_that_stands_still_before_its_body_runs_nothing(
    assisted: Assisted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it goes on its lease may have ended, and the next attempt may run."""
    (hint,) = assisted.hand_out()
    times = iter([100.0, 100.1 + 0.8 * assisted.system.settings.lease_s])
    monkeypatch.setattr(assisted.worker, "_steady", lambda: next(times))
    assert assisted.worker.begin(hint) is None


def test_a_hint_that_comes_again_runs_nothing(assisted: Assisted) -> None:
    """Neither while its attempt runs, nor after it ended: its lease was given once. No slot is lost by it."""
    (hint,) = assisted.hand_out()
    run = assisted.worker.begin(hint)
    assert run is not None
    assert assisted.worker.begin(hint) is None
    assert assisted.used() == (0, 1)
    assisted.system.attempts.complete(run.attempt, Outcome())
    assert assisted.worker.begin(hint) is None
    assert assisted.used() == (0, 0)


def test_a_hint_without_its_event_is_dropped(assisted: Assisted) -> None:
    """As one of an orchestrator with another configuration: the task stays queued and its slot is free."""
    (hint,) = assisted.hand_out()
    assert assisted.worker.begin(Hint(hint.attempt)) is None
    assert assisted.used() == (0, 0)


def test_a_task_that_is_waiting_for_a_worker_is_not_lost_and_one_without_a_lease_is(assisted: Assisted) -> None:
    """While the hint has its lease the claimed task is let be, however long; without it the task is tried again."""
    (hint,) = assisted.hand_out()
    assisted.system.now += 100_000
    assisted.system.scavenger.sweep("resize", thorough=True)
    assert assisted.task().attempts == 1
    assisted.system.slots.take_back("resize", hint.attempt.holder)
    assisted.system.scavenger.sweep("resize", thorough=True)
    assert assisted.task().extra["last_error"].startswith("Lost")
    assisted.system.now += 10
    assisted.system.scavenger.sweep("resize", thorough=True)
    assisted.system.orchestrator.dispatch("resize", from_head=True)
    (again,) = assisted.arrived()
    assert again.attempt.number == 2
    assert assisted.worker.begin(hint) is None
    assert assisted.worker.begin(again) is not None


def test_a_running_one_does_not_expire_by_the_time_of_its_claim(assisted: Assisted) -> None:
    """It was claimed before it began, so only its lease tells; `duration` is held by the kill."""
    (hint,) = assisted.hand_out()
    assisted.worker.begin(hint)
    assisted.system.now += 100_000
    assisted.system.scavenger.sweep("resize", thorough=True)
    assert assisted.task().failed_attempts == 0


# ---- the assistant


def test_closing_early_keeps_the_slot_until_the_second_word(assisted: Assisted) -> None:
    """The row is closed by the first message, its slot is free after the second, which changes nothing else."""
    (hint,) = assisted.hand_out()
    assisted.worker.begin(hint)
    assisted.assistant.handle(closing_message(COMPLETED, hint.attempt, Outcome(stats={"n": 1}), keep_slot=True))
    assert assisted.task().completed_at is not None
    assert assisted.used() == (0, 1)
    assisted.assistant.handle(closing_message(COMPLETED, hint.attempt, Outcome(stats={"n": 2})))
    assert assisted.task().extra["stat_n"] == 1
    assert assisted.used() == (0, 0)


def test_a_failure_brings_its_reason_and_its_wish(assisted: Assisted) -> None:
    """The error is kept, the wait is what the worker asked for."""
    (hint,) = assisted.hand_out()
    assisted.worker.begin(hint)
    message = closing_message(FAILED, hint.attempt, Outcome(), "ValueError: broken", 90)
    assisted.assistant.handle(message)
    assert "ValueError: broken" in assisted.task().extra["last_error"]
    assert assisted.task().desired_launch_time == assisted.system.now + 90
    assisted.assistant.handle(message)
    assert assisted.task().failed_attempts == 1


def test_siblings_in_a_message_are_written_once_before_the_close(assisted: Assisted) -> None:
    """They are tasks of the job; the message may come again, and a stale one spawns nothing."""
    assisted.system.job_of("job-1", 1)
    (hint,) = assisted.hand_out(job_id="job-1")
    assisted.worker.begin(hint)
    sibling = Sibling.of("task-001", 1, {"offset": 5}, [])
    message = closing_message(COMPLETED, hint.attempt, Outcome(), job_id="job-1", siblings=[sibling])
    assisted.assistant.handle(message)
    assisted.assistant.handle(message)
    row = assisted.task(sibling.task_id)
    assert (row.payload, row.job_id, row.attempts) == ('{"offset": 5}', "job-1", 0)
    assert (row.extra["sibling_depth"], row.extra["spawned_by"]) == (1, "task-001")
    assert assisted.system.job_table.get("job-1").tasks == 2
    late = closing_message(COMPLETED, hint.attempt, Outcome(), siblings=[Sibling.of("task-001", 1, {}, [])])
    assisted.assistant.handle(late)
    assert assisted.system.job_table.get("job-1").tasks == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"action": "mark_task_as_done"}, "action: expected one of mark_task_as_completed, mark_task_as_failed"),
        ({"action": None}, "action: .* got None"),
        ({"task_id": ""}, "task_id: expected a text"),
        ({"labourer_id": 5}, "labourer_id: expected a text"),
        ({"attempt": "1"}, "attempt: expected a whole number"),
        ({"attempt": True}, "attempt: expected a whole number"),
        ({"stats": [1]}, "stats: expected an object"),
        ({"result": "x"}, "result: expected an object"),
        ({"siblings": [{}]}, "siblings: expected task_id"),
        ({"action": FAILED, "delay_s": "soon"}, "delay_s: expected seconds"),
    ],
)
def test_a_message_that_is_none_is_refused_by_name(assisted: Assisted, change: dict[str, Any], problem: str) -> None:
    """The error names the parameter and what is expected; nothing is written."""
    (hint,) = assisted.hand_out()
    with pytest.raises(InvalidAction, match=problem):
        assisted.assistant.handle({**closing_message(COMPLETED, hint.attempt, Outcome()), **change})
    assert assisted.task().completed_at is None


def test_a_message_that_is_no_object_is_refused(assisted: Assisted) -> None:
    """So that it is not tried again."""
    with pytest.raises(InvalidAction, match="message: expected an object"):
        assisted.assistant.handle("mark_task_as_completed")  # type: ignore[arg-type]


# ---- siblings


def test_only_the_attempt_that_runs_spawns(assisted: Assisted) -> None:
    """A sibling is spawned once, also if it is closed by then; a stale attempt is refused, and dispatch is told."""
    (hint,) = assisted.hand_out()
    sibling = Sibling.of("task-001", 1, {"offset": 5}, [])
    assert assisted.siblings.spawn(hint.attempt, "", sibling) is True
    assert assisted.siblings.spawn(hint.attempt, "", sibling) is False
    assert assisted.system.announced == [("resize", assisted.task(sibling.task_id).greenfield)]
    stale = Attempt("resize", "task-001", 2)
    other = Sibling.of("task-001", 1, {"offset": 6}, [])
    with pytest.raises(TransitionRefused, match="spawn refused"):
        assisted.siblings.spawn(stale, "", other)
    assisted.system.orchestrator.dispatch("resize", from_head=True)
    (spawned,) = [hint for hint in assisted.arrived() if hint.attempt.task_id == sibling.task_id]
    assisted.system.attempts.complete(spawned.attempt, Outcome())
    assisted.system.scavenger.sweep("resize", thorough=True)
    assert assisted.siblings.spawn(hint.attempt, "", sibling) is False


def test_a_sibling_that_cannot_be_announced_is_spawned_all_the_same(assisted: Assisted) -> None:
    """The row is there; beat finds it."""
    (hint,) = assisted.hand_out()
    assisted.system.error = OSError("no broker")
    assert assisted.siblings.spawn(hint.attempt, "", Sibling.of("task-001", 1, {}, [])) is True


def test_an_absurd_delay_of_a_failed_attempt_leaves_it_to_the_backoff(assisted: Assisted) -> None:
    """A worker of another version asks for it; the attempt has ended all the same."""
    (hint,) = assisted.hand_out()
    message = closing_message(FAILED, hint.attempt, Outcome(), error="not yet", delay_s=1.8e18)
    assisted.assistant.handle(message)
    due = assisted.task().desired_launch_time
    assert due is not None
    assert due <= assisted.system.now + 600
    assert assisted.task().extra["last_error"].startswith("not yet (RetryLater.delay_s: expected seconds")
