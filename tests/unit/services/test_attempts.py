"""Beginning and ending attempts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.core.tasks.retrying import Dead, Retry
from sosw_celery.errors import RetryLater, StoreError, StoreUnavailable
from sosw_celery.services.attempts import ERROR_BYTES, Outcome, describe
from sosw_celery.stores.dynamodb.task_table import Moved
from sosw_celery.stores.redis.slots import Limits, Usage

System = Any


def started(system: System, count: int = 1, **fields: Any) -> Any:
    """Return the run of the first of so many queued tasks."""
    system.queue(count, **fields)
    system.orchestrator.dispatch("resize")
    return system.begin_all()[0]


def used(system: System) -> int:
    """Return how many slots are in use."""
    usage: Usage = system.slots.look("resize")
    return usage.pending + usage.running


def test_a_hint_becomes_a_run_with_the_tasks_event(system: System) -> None:
    """The worker's code gets the payload, and the ids of its task."""
    run = started(system, payload='{"images": [1], "job_id": "of the user"}', job_id="job-1")
    expected = {"task_id": "task-001", "labourer_id": "resize", "attempts": 1}
    assert run.event() == {**expected, "images": [1], "job_id": "of the user"}


def test_a_doubled_hint_is_dropped_and_leaves_the_slot_alone(system: System) -> None:
    """The second worker with the same hint runs nothing and frees nothing."""
    run = started(system)
    assert system.attempts.begin(Hint(run.attempt)) is None
    assert used(system) == 1


def test_a_stale_hint_is_dropped_and_its_slot_is_free_again(system: System) -> None:
    """A hint for a task that has ended costs one refused write."""
    run = started(system)
    system.attempts.complete(run.attempt, run.outcome())
    assert system.attempts.begin(Hint(run.attempt)) is None
    assert used(system) == 0


def test_a_retry_is_due_by_the_clock_that_all_share(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a node that is five minutes fast a retry is due no later than elsewhere."""
    run = started(system)
    monkeypatch.setattr(system.attempts, "_clock", lambda: system.now + 300)
    retry = system.attempts.fail(run.attempt, ValueError("broken"))
    row = system.task_table.find("task-001", ["resize"]).task
    assert row.desired_launch_time == system.now + Decimal(str(retry.delay_s))


@pytest.mark.parametrize("claimed_by_another", [False, True])
def test_who_stands_still_between_slot_and_body_neither_runs_nor_frees(
    system: System, monkeypatch: pytest.MonkeyPatch, claimed_by_another: bool
) -> None:
    """By then the lease may be the one of another worker with the same hint."""
    system.queue(1)
    system.orchestrator.dispatch("resize")
    (hint,) = system.hints
    if claimed_by_another:
        system.task_table.claim(hint.attempt, now=system.now, node="another")
    times = iter([100.0, 100.1 + 0.8 * system.settings.lease_s])
    monkeypatch.setattr(system.attempts, "_steady", lambda: next(times))
    assert system.attempts.begin(hint) is None
    assert system.slots.look("resize").running == 1


def test_a_hint_beyond_the_cap_is_dropped(system: System) -> None:
    """A hint whose lease is gone gets no slot while all are taken; the task stays queued."""
    started(system, 3)
    system.orchestrator.dispatch("resize")
    assert system.attempts.begin(Hint(Attempt("resize", "task-003", 1))) is None
    assert system.task_table.find("task-003").task.attempts == 0


def test_a_completed_attempt_keeps_stats_and_result_and_frees_its_slot(system: System) -> None:
    """What was counted, found and returned is on the row as stat_ and result_ fields."""
    run = started(system)
    run.stats["images"] += 2
    run.result["size"] = 7
    system.attempts.complete(run.attempt, run.outcome({"names": ["a"]}))
    extra = system.task_table.find("task-001").task.extra
    assert (extra["stat_images"], extra["result_size"], extra["result_names"]) == (2, 7, ["a"])
    assert used(system) == 0


def test_what_is_returned_other_than_a_dict_is_the_value(system: System) -> None:
    """A plain return value is kept as `result_value`; None leaves nothing."""
    assert started(system).outcome(42).attributes() == {"result_value": 42}
    assert Outcome().attributes() == {}


def test_results_too_large_for_a_row_do_not_stop_the_close() -> None:
    """The attempt closes all the same, and the row says what was dropped."""
    attributes = Outcome(result={"text": "x" * 300_000}).attributes()
    assert attributes == {"result_dropped": "300011 bytes of results exceed the 200000 that the row has left"}
    far = Outcome(result={"text": "x" * 5_000_000}).attributes()
    assert far["result_dropped"] == "more than 1000000 bytes of results exceed the 200000 that the row has left"
    assert Outcome({"n": 1}, {"text": "x" * 300_000}).attributes().keys() == {"stat_n", "result_dropped"}
    assert Outcome({"n": "x" * 300_000}, {"text": "x"}).attributes().keys() == {"result_dropped"}


def test_a_failed_attempt_is_retried_with_backoff_until_the_task_is_dead(system: System) -> None:
    """Three attempts by default: retry after 1 s, after 2 s, then dead; the slot is free after each."""
    system.job_of("job-1", 1)
    attempt = started(system, job_id="job-1").attempt
    for number, delay in ((1, 1.0), (2, 2.0)):
        assert attempt.number == number
        assert system.attempts.fail(attempt, ValueError("broken")) == Retry(delay)
        assert used(system) == 0
        system.now += 5
        system.scavenger.sweep("resize")
        system.orchestrator.dispatch("resize")
        attempt = system.begin_all()[0].attempt
    assert system.attempts.fail(attempt, ValueError("broken")) == Dead()
    found = system.task_table.find("task-001")
    assert (found.where, found.dead) == ("closed", True)
    assert found.task.extra["last_error"] == "ValueError: broken"
    assert (found.task.attempts, found.task.failed_attempts) == (3, 3)
    assert system.job_table.get("job-1").state.value == "completed_with_dead"


def test_a_worker_may_say_when_to_try_again(system: System) -> None:
    """RetryLater chooses the wait."""
    run = started(system)
    assert system.attempts.fail(run.attempt, RetryLater(90, "rate limited")) == Retry(90)
    row = system.task_table.find("task-001", ["resize"]).task
    assert row.desired_launch_time == system.now + 90


def test_failing_twice_or_after_the_close_changes_nothing(system: System) -> None:
    """The backup signals may come late: they are refused."""
    run = started(system)
    system.attempts.complete(run.attempt, run.outcome())
    assert system.attempts.fail(run.attempt, "WorkerLostError") is None
    assert system.task_table.find("task-001").task.completed_at == system.now


def test_an_error_is_cut_to_what_a_row_keeps() -> None:
    """Type and message are kept, at most 2 KB of them, cut between characters."""
    text = describe(ValueError("é" * 5000))
    assert text.startswith("ValueError: é")
    assert ERROR_BYTES - 2 < len(text.encode()) <= ERROR_BYTES


def nowhere(attempt: Attempt) -> None:
    """Note nothing: there is no main process."""


@pytest.fixture(params=[True, False], ids=["one call", "two calls"])
def going_on(system: System, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> System:
    """A system whose table closes and claims in one call, or refuses that. Its twin would close whatever is asked."""

    def both(done: Attempt, following: Attempt, *, now: Decimal, outcome: Any, claimer: str) -> Moved:
        if not request.param:
            return Moved(False, None)
        system.task_table.complete(done, now=now, outcome=outcome)
        return Moved(True, system.task_table.claim(following, now=now, node="", claimer=claimer))

    monkeypatch.setattr(system.task_table, "complete_and_claim", both)
    return system


def test_who_goes_on_runs_the_next_task_in_its_slot(going_on: System) -> None:
    """The one is completed, the other claimed; no hint is published, and no further slot is used."""
    run = started(going_on, 4)
    places: list[Attempt] = []
    following = going_on.attempts.go_on(run.attempt, run.outcome({"size": 1}), places.append)
    assert following is not None
    assert places == [following.attempt]
    assert (following.attempt, going_on.ids(), used(going_on)) == (Attempt("resize", "task-003", 1), [], 2)
    closed = going_on.task_table.find("task-001").task
    assert (closed.completed_at, closed.extra["result_size"]) == (going_on.now, 1)
    assert going_on.task_table.find("task-003").task.attempts == 1
    sweep = going_on.slots.begin_sweep("resize")
    assert {"task-001/1", "task-003/1"} <= sweep.running  # the first one might not be closed yet
    going_on.attempts.complete(following.attempt, following.outcome())
    assert "task-001/1" not in going_on.slots.begin_sweep("resize").running


def test_who_goes_on_where_none_stands_by_is_completed(going_on: System) -> None:
    """And its slot is free."""
    run = started(going_on)
    assert going_on.attempts.go_on(run.attempt, run.outcome(), nowhere) is None
    assert going_on.task_table.find("task-001").task.completed_at == going_on.now
    assert (going_on.ids(), used(going_on)) == ([], 0)


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreError], ids=["away", "not allowed"])
def test_who_goes_on_while_redis_is_away_is_closed_all_the_same(
    system: System, monkeypatch: pytest.MonkeyPatch, kind: type[StoreError]
) -> None:
    """Then the slot cannot be freed: whoever repeats the close does that."""
    run = started(system, 4)

    def fail(*_: Any, **__: Any) -> None:
        raise kind("redis", "EVALSHA", "")

    with monkeypatch.context() as away:
        away.setattr(system.slots, "hand_on", fail)
        away.setattr(system.slots, "release", fail)
        with pytest.raises(kind):
            system.attempts.go_on(run.attempt, run.outcome(), nowhere)
    assert system.task_table.find("task-001").task.completed_at == system.now
    system.attempts.complete(run.attempt, run.outcome())
    assert system.ids() == ["task-003"]


def test_nobody_is_told_of_anything_before_the_close(going_on: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker may take its time, and until then the process has a lease that its node knows nothing of."""
    run = started(going_on, 11)
    view = going_on.slots.begin_pass("resize", limits=Limits(2), lease_s=60)
    going_on.slots.end_pass("resize", work_seq=view.work_seq, dry=False)
    states: list[Any] = []
    monkeypatch.setattr(
        going_on,
        "request_dispatch",
        lambda _: states.append(going_on.task_table.find("task-001").task.completed_at),
    )
    while not states:
        following = going_on.attempts.go_on(run.attempt, run.outcome(), nowhere)
        assert following is not None
        run = following
    assert states == [going_on.now]


def test_a_next_task_that_is_not_ours_gives_its_slot_on(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else claimed it meanwhile: the slot goes to the one after it, by a hint."""
    run = started(system, 5)
    system.task_table.claim(Attempt("resize", "task-003", 1), now=system.now, node="other")
    monkeypatch.setattr(system.task_table, "complete_and_claim", lambda *_, **__: Moved(False, None))
    assert system.attempts.go_on(run.attempt, run.outcome(), nowhere) is None
    assert (system.ids(), used(system)) == (["task-004"], 2)


def test_who_could_not_be_closed_has_its_slot_again(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until somebody closes it; the next task is handed out anew, and looked for in case it was claimed."""
    run = started(system, 4)
    places: list[Attempt] = []

    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("dynamodb", "UpdateItem", "InternalServerError")

    monkeypatch.setattr(system.task_table, "complete_and_claim", lambda *_, **__: Moved(False, None))
    with monkeypatch.context() as broken:
        broken.setattr(system.task_table, "complete", fail)
        with pytest.raises(StoreUnavailable):
            system.attempts.go_on(run.attempt, run.outcome(), places.append)
    assert places == [Attempt("resize", "task-003", 1), run.attempt]
    sweep = system.slots.begin_sweep("resize")
    assert ("task-001/1" in sweep.running, "task-003/1" in sweep.running, sweep.lapses) == (True, False, 1)
    system.attempts.complete(run.attempt, run.outcome())
    assert system.task_table.find("task-001").task.completed_at == system.now
    assert system.ids() == ["task-004"]
    system.orchestrator.dispatch("resize")
    assert system.slots.look("resize").standby == 1


def test_a_next_task_whose_claim_is_unknown_is_not_run(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before it is closed, and its own lease runs out."""
    run = started(system, 4)

    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("dynamodb", "UpdateItem", "InternalServerError")

    monkeypatch.setattr(system.task_table, "complete_and_claim", lambda *_, **__: Moved(False, None))
    monkeypatch.setattr(system.task_table, "claim", fail)
    assert system.attempts.go_on(run.attempt, run.outcome(), nowhere) is None
    assert system.task_table.find("task-001").task.completed_at == system.now
    assert "task-003/1" in system.slots.begin_sweep("resize").running


def test_who_lost_its_slot_closes_and_goes_on_with_nothing(system: System) -> None:
    """Its slot may be another's."""
    run = started(system, 4)
    system.slots.take_back("resize", run.attempt.holder)
    assert system.attempts.go_on(run.attempt, run.outcome(), nowhere) is None
    assert system.task_table.find("task-001").task.completed_at == system.now
    assert system.task_table.find("task-003").task.attempts == 0


def refuse(what: object) -> None:
    """Raise as a broker that is away does."""
    raise ConnectionError(f"broker is away from {what}")


def test_a_broker_that_refuses_does_not_fail_a_close(system: System, caplog: pytest.LogCaptureFixture) -> None:
    """When the next task's hint cannot be sent, the task is closed all the same, and the slot is free for a pass."""
    run = started(system, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "publish_hints", refuse)
        system.attempts.complete(run.attempt, run.outcome())
    assert "broker is away" in caplog.text
    assert system.task_table.find("task-001").task.completed_at == system.now
    assert used(system) == 1
    assert system.dispatches == ["resize"]
    assert system.orchestrator.dispatch("resize", from_head=True) == 1


def test_a_close_does_not_fail_for_want_of_a_dispatch(
    system: System, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The dispatch and the sweep that a close calls for may fail; both are tried."""
    monkeypatch.setattr(system, "request_dispatch", refuse)
    monkeypatch.setattr(system, "request_sweep", refuse)
    run = started(system)
    for _ in range(4):
        system.slots.take_back("resize", "other/1")  # four ends: the fifth asks for a sweep
    system.slots.announce_work("resize")
    view = system.slots.begin_pass("resize", limits=Limits(2), lease_s=60)
    system.slots.end_pass("resize", work_seq=view.work_seq, dry=False)
    system.attempts.complete(run.attempt, run.outcome())
    assert caplog.text.count("broker is away from resize") == 2 * len(("message", "traceback"))
    assert used(system) == 0


def test_a_redis_that_goes_away_with_its_broker_does_not_fail_a_close(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was granted and can be neither published nor taken back is free again when its lease ends."""
    run = started(system, 4)

    def gone(labourer_id: str, holder: str) -> None:
        raise StoreUnavailable("redis", "release", "ConnectionError")

    system.error = ConnectionError("broker is away")
    monkeypatch.setattr(system.slots, "take_back", gone)
    system.attempts.complete(run.attempt, run.outcome())
    assert used(system) == 2


def test_a_slot_that_a_stale_hint_had_goes_to_the_next_task(system: System) -> None:
    """Who stands by may have ended meanwhile: its refused claim passes the slot on."""
    run = started(system, 3)
    system.redis.zadd("sosw:{resize}:standby", {run.attempt.holder: 0})
    system.attempts.complete(run.attempt, run.outcome())
    assert system.ids() == ["task-001"]
    assert system.begin_all() == []
    assert system.ids() == ["task-003"]


@pytest.mark.parametrize("payload", ["not JSON", "[1]", "5"])
def test_a_payload_that_is_no_object_is_told(system: System, payload: str) -> None:
    """What cannot be an event raises ValueError, for the worker to bury the task."""
    run = started(system, payload=payload)
    with pytest.raises(ValueError, match=r"Expecting value|expected the JSON text of an object"):
        run.event()
    system.attempts.bury(run.attempt, "the payload cannot be read")
    assert system.task_table.find("task-001").dead
    assert used(system) == 0


def test_health_holds_back_what_was_handed_out_and_ends_nothing(system: System) -> None:
    """With no slot left a hint is dropped and no attempt counted; what runs ends well, and hands nothing over."""
    system.queue(4)
    system.orchestrator.dispatch("resize")
    first = system.attempts.begin(system.hints[0])
    system.health = 0.0
    assert system.attempts.begin(system.hints[1]) is None
    system.hints.clear()
    system.attempts.complete(first.attempt, first.outcome())
    assert system.hints == []
    assert system.slots.look("resize").running == 0
    assert system.task_table.find("task-002").task.attempts == 0
    system.health = 1.0
    ran = []
    for _ in range(3):
        system.tend()
        for run in system.begin_all():
            ran.append(run.task.task_id)
            system.attempts.complete(run.attempt, run.outcome())
    assert sorted(ran) == ["task-002", "task-003", "task-004"]


class Mute(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError("mute")


def test_an_error_that_says_nothing_stops_no_end(system: System) -> None:
    """The row names its class; so it does for an error whose text UTF-8 cannot say."""
    run = started(system)
    assert system.attempts.fail(run.attempt, Mute()) == Retry(1)
    row = system.task_table.find("task-001", ["resize"]).task
    assert row.extra["last_error"] == "Mute: <Mute without a text: RuntimeError>"
    assert describe(ValueError("\ud800")) == "ValueError: \\ud800"
    assert describe(RetryLater(4, Mute())) == "RetryLater: <RetryLater without a text: RuntimeError>"  # type: ignore[arg-type]
