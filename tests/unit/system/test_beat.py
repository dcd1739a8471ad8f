"""Celery beat for scheduled jobs: driven tick by tick with a clock of our own, on a broker in memory."""

from __future__ import annotations

import logging
import pickle
import shelve
import sys
import types
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from celery.schedules import crontab

from sosw_celery import clock
from sosw_celery.config.settings import load_settings
from sosw_celery.core.schedules import parse_schedule
from sosw_celery.errors import ConfigError, InvalidJob, StoreUnavailable
from sosw_celery.system import beat as beat_module
from sosw_celery.system.beat import OnlyOurs, SoswBeat, TickSchedule, beat_entries

JOB = {"lambda_name": "resize", "stores": ["a", "b"]}
#: The safety net's entries, replaced by ones that are not due while a test looks at scheduled jobs.
QUIET = {name: {"task": "quiet", "schedule": 86_400.0 * 3650} for name in beat_entries(load_settings({}))}


def utc(text: str) -> datetime:
    """Return the instant that an ISO text states in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


class Time:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.moment = utc("2026-11-23T10:00:30")

    def now(self) -> Decimal:
        """Return the seconds since the epoch."""
        return Decimal(str(self.moment.timestamp()))


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock of scheduled jobs, in the test's hand."""
    time = Time()
    monkeypatch.setattr(clock, "now", time.now)
    return time


class Submitted:
    """What the Scheduler's task was given; `fail` makes it refuse."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.fail: Exception | None = None
        self.fail_for = ""

    @property
    def ids(self) -> list[str]:
        """The job ids, in order."""
        return [job["job_id"] for job in self.jobs]

    def take(self, job: dict[str, Any]) -> None:
        """Keep the job, or refuse it."""
        if self.fail and self.fail_for in job["job_id"]:
            raise self.fail
        self.jobs.append(job)


class StandIn(Task):  # type: ignore[type-arg]
    """Stands for the Scheduler's task."""

    name = "scheduler"

    def __init__(self, submitted: Submitted) -> None:
        self.submitted = submitted

    def apply_async(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Keep the job that was sent."""
        self.submitted.take(args[0])


@pytest.fixture
def submitted() -> Submitted:
    """The jobs that were submitted."""
    return Submitted()


@pytest.fixture
def make_beat(
    tmp_path: Path, submitted: Submitted, time: Time, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SoswBeat]:
    """Start a beat with these scheduled jobs; one of the same `file` goes on where that one stopped."""
    monkeypatch.setattr(beat_module, "settings_of", lambda app: load_settings(app.conf["sosw"]))

    def make(file: str = "schedule", beat_schedule: dict[str, Any] | None = None, **jobs: Any) -> SoswBeat:
        app = Celery("test", broker="memory://", set_as_current=False)
        entries = {
            name: {"job": JOB, **(job if isinstance(job, dict) else {"schedule": job})} for name, job in jobs.items()
        }
        app.conf.update(
            result_expires=None,
            sosw={"labourers": {"resize": {}}, "scheduled_jobs": entries},
            beat_schedule={**QUIET, **(beat_schedule or {})},
        )

        app.register_task(StandIn(submitted))
        monkeypatch.setattr(app, "now", lambda: time.moment)  # for the entries of Celery's own kind
        return SoswBeat(app, schedule_filename=str(tmp_path / file))

    return make


def run_at(beat: SoswBeat, time: Time, moment: datetime) -> float:
    """Set the clock and let the beat do all that is due; return the seconds that it wants to sleep."""
    time.moment = moment
    for _ in range(20):
        delay = beat.tick()
        if delay > 0:
            return delay
    raise AssertionError("beat does not come to rest")


def test_entries_of_scheduled_jobs() -> None:
    """Each scheduled job becomes an entry that submits it to the Scheduler's queue."""
    entries = beat_entries(load_settings({"scheduled_jobs": {"n": {"schedule": 60, "job": JOB}}}))

    job = entries["sosw.scheduled_jobs.n"]
    assert (job["task"], job["args"], job["options"]) == ("scheduler", (JOB,), {"queue": "sosw_scheduler"})
    assert job["schedule"] == TickSchedule("n", parse_schedule(60, "UTC", "key"))


def test_beat_says_at_its_start_which_jobs_would_be_refused(
    make_beat: Callable[..., SoswBeat], submitted: Submitted, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """As errors, without the values of the job, and it goes on: the others are submitted."""
    bad = {"schedule": "0 3 * * *", "job": {**JOB, "period": "canary"}}
    with caplog.at_level(logging.ERROR):
        beat = make_beat(nightly=bad, often=60)
        run_at(beat, time, time.moment)
        run_at(beat, time, time.moment + timedelta(minutes=1))
    assert submitted.ids == ["often@2026-11-23T10:01:00Z"]
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("beat.entry_refused entry=nightly: InvalidJob(")
    assert "job.period: unknown period" in told
    assert "canary" not in told


def test_entries_of_the_safety_net() -> None:
    """Passes and sweeps are sent as often as the settings say, to their queues, and expire when nobody takes them."""
    entries = beat_entries(load_settings({"safety_net_s": 7, "hint_lease_s": 14, "sweep_s": 3}))

    dispatch, sweep = entries["sosw.dispatch_all"], entries["sosw.sweep_all"]
    assert (dispatch["task"], dispatch["schedule"]) == ("sosw.dispatch_all", 7.0)
    assert (sweep["task"], sweep["schedule"]) == ("sosw.sweep_all", 3.0)
    assert dispatch["options"]["queue"] == "sosw_orchestrator"
    assert sweep["options"]["queue"] == "sosw_scavenger"
    assert all(entry["options"]["expires"] > 0 for entry in entries.values())


@pytest.mark.parametrize(
    ("section", "own", "expected"),
    [(None, None, "03:00"), ("Europe/Amsterdam", None, "02:00"), ("Europe/Amsterdam", "Asia/Tokyo", "18:00")],
)
def test_zone_of_an_entry(section: str | None, own: str | None, expected: str) -> None:
    """An entry's own time zone decides, else that of the section, else UTC."""
    entry = {"schedule": "0 3 * * *", "job": JOB} | ({"timezone": own} if own else {})
    settings = load_settings({"scheduled_jobs": {"n": entry}} | ({"timezone": section} if section else {}))

    plan = beat_entries(settings)["sosw.scheduled_jobs.n"]["schedule"].plan

    assert f"{plan.next_after(utc('2026-11-23')):%H:%M}" == expected


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"schedule": 0, "job": JOB}, "schedule"),
        ({"schedule": "0 3 * *", "job": JOB}, "schedule"),
        ({"schedule": 60, "job": {}}, "job"),
        ({"schedule": 60, "job": {"job": JOB}}, "job"),
        ({"schedule": 60, "job": {**JOB, "job_id": "mine"}}, "job.job_id"),
    ],
)
def test_bad_entries_are_refused_at_start(entry: dict[str, Any], key: str) -> None:
    """A scheduled job that could never be submitted is a ConfigError that names its place."""
    with pytest.raises(ConfigError) as caught:
        beat_entries(load_settings({"scheduled_jobs": {"n": entry}}))

    assert caught.value.key == f"sosw.scheduled_jobs.n.{key}"


def test_a_tick_submits_the_job_with_its_planned_time(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """What is submitted is the entry's job and a job id of its name and planned time, however late the beat is."""
    beat = make_beat(quarter="*/15 * * * *")
    run_at(beat, time, utc("2026-11-23T10:14:59"))
    assert submitted.jobs == []

    run_at(beat, time, utc("2026-11-23T10:15:07.500"))

    assert submitted.jobs == [{**JOB, "job_id": "quarter@2026-11-23T10:15:00Z"}]
    run_at(beat, time, utc("2026-11-23T10:29:59"))
    assert len(submitted.jobs) == 1


def test_the_beat_sleeps_until_the_next_tick(make_beat: Any, time: Time) -> None:
    """With nothing due the beat asks to be woken just when the next tick is planned."""
    beat = make_beat(quarter="*/15 * * * *")

    assert run_at(beat, time, utc("2026-11-23T10:14:00")) == pytest.approx(60, abs=0.1)


def test_a_new_beat_waits_for_the_next_tick(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """A tick that was planned before there was any beat is nobody's."""
    run_at(make_beat(quarter="*/15 * * * *"), time, utc("2026-11-23T10:00:31"))

    assert submitted.jobs == []


def test_missed_ticks_are_made_up_once(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """After ten hours without a beat the latest planned tick is sent, and only that."""
    beat = make_beat(quarter="*/15 * * * *")
    run_at(beat, time, utc("2026-11-23T10:15:01"))
    beat.close()

    run_at(make_beat(quarter="*/15 * * * *"), time, utc("2026-11-23T20:21"))

    assert submitted.ids == ["quarter@2026-11-23T10:15:00Z", "quarter@2026-11-23T20:15:00Z"]


def test_a_beat_that_was_started_and_killed_is_made_up_for(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """A beat remembers from its first moment on, so that a kill before its first tick loses no tick."""
    killed = make_beat(nightly="0 3 * * *")
    killed._store.close()

    run_at(make_beat(nightly="0 3 * * *"), time, utc("2026-11-24T09:00"))

    assert submitted.ids == ["nightly@2026-11-24T03:00:00Z"]


def test_another_schedule_makes_up_for_nothing(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """A schedule that was changed while no beat ran starts anew: its ticks of the past were never promised."""
    make_beat(nightly="0 3 * * *").close()

    run_at(make_beat(nightly="0 5 * * *"), time, utc("2026-11-23T10:30"))
    time.moment = utc("2026-11-24T09:00")
    beat = make_beat(nightly="0 7 * * *")
    run_at(beat, time, utc("2026-11-24T09:00"))
    run_at(beat, time, utc("2026-11-25T07:00:01"))

    assert submitted.ids == ["nightly@2026-11-25T07:00:00Z"]


def test_another_job_keeps_its_schedule(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """A job that was changed while no beat ran is submitted for the missed tick as it is now."""
    make_beat(nightly="0 3 * * *").close()
    changed = {"lambda_name": "resize", "stores": ["c"]}

    run_at(make_beat(nightly={"schedule": "0 3 * * *", "job": changed}), time, utc("2026-11-24T04:00"))

    assert submitted.jobs == [{**changed, "job_id": "nightly@2026-11-24T03:00:00Z"}]


def test_two_beats_submit_the_same_job_ids(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """Beats that were started at different times and tick at different moments plan the same jobs."""
    one = make_beat("one", minutely=60, quarter="*/15 * * * *")
    time.moment += timedelta(seconds=17.3)
    two = make_beat("two", minutely=60, quarter="*/15 * * * *")

    for minute in range(1, 31):
        run_at(one, time, utc("2026-11-23T10:00:48") + timedelta(minutes=minute))
        run_at(two, time, utc("2026-11-23T10:00:59.900") + timedelta(minutes=minute))

    assert len(submitted.ids) == 64
    assert len(set(submitted.ids)) == 32


@pytest.mark.parametrize(
    ("schedule", "start", "hours", "expected"),
    [
        ("*/15 * * * *", "2026-10-24T22:00:00", 25, 100),  # autumn, where Celery's own sends 96
        ("*/15 * * * *", "2026-03-28T23:00:00", 23, 92),
        ("30 2 * * *", "2026-10-24T22:00:00", 25, 1),
        ("30 2 * * *", "2026-03-28T23:00:00", 23, 1),
        (crontab(minute="*/15"), "2026-10-24T22:00:00", 25, 100),
    ],
)
def test_days_of_change_through_the_beat(
    make_beat: Any, time: Time, submitted: Submitted, schedule: Any, start: str, hours: int, expected: int
) -> None:
    """On days when clocks change the beat sends each planned tick once: none is left out, none comes twice."""
    time.moment = utc(start) - timedelta(seconds=1)
    beat = make_beat(job={"schedule": schedule, "timezone": "Europe/Amsterdam"})

    for minute in range(hours * 60):
        run_at(beat, time, utc(start) + timedelta(minutes=minute, seconds=2))

    assert len(submitted.ids) == len(set(submitted.ids)) == expected


def test_a_tick_that_cannot_be_sent_is_tried_again(
    make_beat: Any, time: Time, submitted: Submitted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the job table away the other entries go on, and the tick is sent when the table is back."""
    monkeypatch.setattr(beat_module, "RESEND_S", 0.0)
    submitted.fail, submitted.fail_for = StoreUnavailable("dynamodb", "put"), "first"
    beat = make_beat(first="0 * * * *", second="0 * * * *")
    time.moment = utc("2026-11-23T11:00:01")

    for _ in range(6):
        beat.tick()
    assert submitted.ids == ["second@2026-11-23T11:00:00Z"]
    assert "beat.tick_unsent entry=first" in caplog.text

    submitted.fail = None
    run_at(beat, time, utc("2026-11-23T11:00:10"))
    assert submitted.ids[1:] == ["first@2026-11-23T11:00:00Z"]
    run_at(beat, time, utc("2026-11-23T11:59:00"))
    assert len(submitted.ids) == 2


def test_a_tick_that_cannot_be_sent_is_not_tried_at_once(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """Between two tries the beat sleeps for seconds instead of spinning."""
    submitted.fail = StoreUnavailable("dynamodb", "put")
    beat = make_beat(hourly="0 * * * *")

    time.moment = utc("2026-11-23T11:00:01")
    beat.tick()

    assert 4 < beat.tick() <= beat_module.RESEND_S


def test_an_unsent_tick_survives_a_restart(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """A beat that stopped before it could send a tick leaves it to the next one."""
    submitted.fail = StoreUnavailable("dynamodb", "put")
    beat = make_beat(hourly="0 * * * *")
    time.moment = utc("2026-11-23T11:00:01")
    beat.tick()
    beat.close()
    submitted.fail = None

    run_at(make_beat(hourly="0 * * * *"), time, utc("2026-11-23T11:20"))

    assert submitted.ids == ["hourly@2026-11-23T11:00:00Z"]


def test_unsent_ticks_are_replaced_by_the_latest(make_beat: Any, time: Time, submitted: Submitted) -> None:
    """When the table comes back after hours, the latest tick is sent and not each of them."""
    submitted.fail = StoreUnavailable("dynamodb", "put")
    beat = make_beat(hourly="0 * * * *")
    for hour in (11, 12, 13):
        run_at(beat, time, utc(f"2026-11-23T{hour}:00:01"))
    submitted.fail = None
    beat._unsent = dict.fromkeys(beat._unsent, 0.0)

    run_at(beat, time, utc("2026-11-23T13:00:09"))

    assert submitted.ids == ["hourly@2026-11-23T13:00:00Z"]


def test_a_refused_job_stops_nothing(
    make_beat: Any, time: Time, submitted: Submitted, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid job is logged once for each tick, with its reason; the other entries are sent."""
    submitted.fail, submitted.fail_for = InvalidJob("job.period", "unknown period"), "bad"
    beat = make_beat(bad="0 * * * *", good="0 * * * *")

    run_at(beat, time, utc("2026-11-23T11:00:01"))
    run_at(beat, time, utc("2026-11-23T11:30:01"))
    run_at(beat, time, utc("2026-11-23T12:00:01"))

    assert submitted.ids == ["good@2026-11-23T11:00:00Z", "good@2026-11-23T12:00:00Z"]
    assert caplog.text.count("beat.tick_refused entry=bad") == 2
    assert "unknown period" in caplog.text


def test_entries_of_celery_stay(make_beat: Any, time: Time) -> None:
    """What stands in Celery's own `beat_schedule` is planned beside ours, and remembered across restarts."""
    own = {"mine": {"task": "mine", "schedule": 3600.0}}
    beat = make_beat(nightly="0 3 * * *", beat_schedule=own)
    beat.schedule["mine"].total_run_count = 7
    beat.close()

    again = make_beat(nightly="0 3 * * *", beat_schedule=own)

    assert set(again.schedule) == {"mine", "sosw.scheduled_jobs.nightly", *QUIET}
    assert again.schedule["mine"].total_run_count == 7


def test_entries_that_are_gone_are_forgotten(make_beat: Any, time: Time) -> None:
    """A scheduled job that was taken out of the configuration is not sent any more."""
    make_beat(nightly="0 3 * * *", hourly="0 * * * *").close()

    assert "sosw.scheduled_jobs.hourly" not in make_beat(nightly="0 3 * * *").schedule


def test_a_lazy_beat_opens_no_file(make_beat: Any, tmp_path: Path) -> None:
    """Celery builds the scheduler once more for its banner; that one leaves the schedule file alone."""
    beat = make_beat()
    beat.close()
    SoswBeat(beat.app, schedule_filename=str(tmp_path / "other"), lazy=True)

    assert not list(tmp_path.glob("other*"))


def test_without_the_task_the_message_goes_to_its_queue(make_beat: Any, time: Time) -> None:
    """A beat whose app does not know the Scheduler's task sends it by name to the Scheduler's queue."""
    beat = make_beat(quarter="*/15 * * * *")
    del beat.app.tasks["scheduler"]
    with beat.app.connection_for_read() as connection:
        connection.SimpleQueue("sosw_scheduler").clear()  # all brokers in memory of a process are one

    run_at(beat, time, utc("2026-11-23T10:15:01"))

    with beat.app.connection_for_read() as connection:
        message = connection.SimpleQueue("sosw_scheduler").get_nowait()
    assert message.headers["task"] == "scheduler"
    assert message.decode()[0] == [{**JOB, "job_id": "quarter@2026-11-23T10:15:00Z"}]
    message.ack()


def test_tick_schedules_are_values(time: Time) -> None:
    """They compare and pickle by entry and plan, and print what they plan."""
    schedule = TickSchedule("nightly", parse_schedule("30 2 * * *", "Europe/Amsterdam", "key"))

    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert schedule != TickSchedule("other", schedule.plan)
    assert schedule != crontab("30", "2")
    assert repr(schedule) == "<ticks of nightly: 30 2 * * * (Europe/Amsterdam)>"
    assert schedule.remaining_estimate(utc("2026-11-23T09:00")) == timedelta(hours=15, minutes=29, seconds=30)


def test_beside_another_beat_only_our_entries_run(make_beat: Any, tmp_path: Path) -> None:
    """Neither those of the app, nor Celery's own: the other beat runs them."""
    both = make_beat(beat_schedule={"theirs": {"task": "send_mail", "schedule": 60}}, nightly="0 3 * * *")
    both.app.conf.result_expires = 60  # for which Celery has an entry that removes old results
    assert "theirs" in both.schedule
    both.close()
    ours = OnlyOurs(both.app, schedule_filename=str(tmp_path / "ours"))
    planned = set(ours.schedule)
    ours.close()
    assert planned == set(beat_entries(load_settings(both.app.conf.sosw)))
    assert "sosw.scheduled_jobs.nightly" in planned


def test_a_schedule_file_of_another_version_is_begun_anew(make_beat: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Its entries may be of classes that have another place now; beat starts, and says so."""
    elsewhere = types.ModuleType("sosw_celery_of_before")
    elsewhere.TickSchedule = type("TickSchedule", (), {"__module__": elsewhere.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, elsewhere.__name__, elsewhere)
    with shelve.open(str(tmp_path / "schedule")) as store:  # as Celery keeps it
        store["entries"] = {"nightly": elsewhere.TickSchedule()}
    monkeypatch.delitem(sys.modules, elsewhere.__name__)
    beat = make_beat(nightly="0 3 * * *")
    assert "sosw.scheduled_jobs.nightly" in beat.schedule
    beat.close()
    again = make_beat(nightly="0 3 * * *")
    assert "sosw.scheduled_jobs.nightly" in again.schedule
