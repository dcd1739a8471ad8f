"""Celery beat for scheduled jobs: `celery -A sosw_celery beat` runs this scheduler.

It plans three kinds of entries:

- one for each entry of `scheduled_jobs`: it submits the entry's job with a job id made of the entry's name and the
  tick's planned time, so any number of beats may run side by side and each tick still becomes one job;
- the safety net: a dispatch for every labourer each `safety_net_s` seconds, a sweep each `sweep_s` and one of
  unfinished jobs each `sweep_jobs_s` seconds; once a minute a thorough sweep, for whatever Redis does not know of;
- whatever stands in Celery's own `beat_schedule`, as Celery does it.

What was sent last is remembered in Celery's schedule file (`-s`, `beat_schedule_filename`). A tick counts as sent once
the Scheduler has the job; until then it is tried again, also after a restart. Of the ticks missed while no beat ran,
the latest is made up for. Without the file (a new container with no volume) a new beat waits for the next tick.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler
from celery.schedules import BaseSchedule, schedstate
from celery.utils.log import get_logger

from sosw_celery import clock
from sosw_celery.config.settings import Settings
from sosw_celery.core.schedules import Schedule, instant, tick_job_id
from sosw_celery.errors import InvalidJob
from sosw_celery.names import DISPATCH_ALL, QUEUES, SCHEDULER, SWEEP_ALL, SWEEP_JOBS, TELL_OF_DEAD
from sosw_celery.services.scheduled_jobs import plan_of, problem_of
from sosw_celery.system.loading import end_if_needed, ending_commands, tell_of_missing
from sosw_celery.wiring.container import settings_of
from sosw_celery.wiring.messenger import MESSAGE_EXPIRES_S

__all__ = ["OnlyOurs", "SoswBeat", "TickSchedule", "beat_entries", "plan_with_ours"]

logger = get_logger(__name__)

#: Celery's default of `beat_scheduler`, and what takes its place.
CELERYS_SCHEDULER = "celery.beat:PersistentScheduler"
SCHEDULER_OF_BEAT = "sosw_celery.system.beat:SoswBeat"

#: Seconds between two looks into the tables that nothing gave a reason for: Redis may have lost what it knew.
THOROUGH_S = 60.0

#: Tasks of a scheduled job that are looked at when beat starts, which is not to wait long for that.
LOOKED_AT = 10_000

#: Seconds until a tick that could not be sent is tried again.
RESEND_S = 5.0


class TickSchedule(BaseSchedule):
    """The schedule of one scheduled job, in the form that Celery's beat asks for.

    Parameters:
        name: The entry's name in `scheduled_jobs`.
        plan: Its planned times.
    """

    def __init__(self, name: str, plan: Schedule) -> None:
        super().__init__()
        self.name = name
        self.plan = plan

    def now(self) -> datetime:
        """Return the time in UTC, whatever zone the app is set to."""
        return instant(clock.now())

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time until the first tick after `last_run_at`; negative when it is overdue."""
        return self.plan.next_after(last_run_at) - self.now()

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether a tick was planned since `last_run_at`, and the seconds until the next one."""
        now = self.now()
        is_due = self.plan.next_after(last_run_at) <= now
        return schedstate(is_due=is_due, next=(self.plan.next_after(now) - now).total_seconds())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TickSchedule):
            return (self.name, self.plan) == (other.name, other.plan)
        return NotImplemented

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return TickSchedule, (self.name, self.plan)

    def __repr__(self) -> str:
        return f"<ticks of {self.name}: {self.plan}>"


def beat_entries(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the entries that the settings ask for, as Celery's `beat_schedule` has them.

    Raises:
        ConfigError: An entry of `scheduled_jobs` cannot be used; names the key.
    """
    entries = {
        SWEEP_ALL: _safety_net(SWEEP_ALL, settings.sweep_s),
        f"{SWEEP_ALL} thoroughly": _safety_net(SWEEP_ALL, THOROUGH_S, thorough=True),
        SWEEP_JOBS: _safety_net(SWEEP_JOBS, settings.sweep_jobs_s),
        DISPATCH_ALL: _safety_net(DISPATCH_ALL, settings.safety_net_s),
    }
    if settings.tells_of_dead_tasks:
        entries[TELL_OF_DEAD] = _safety_net(TELL_OF_DEAD, settings.notices.every_s)
    for name, entry in settings.scheduled_jobs.items():
        entries[f"sosw.scheduled_jobs.{name}"] = {
            "task": SCHEDULER,
            "schedule": TickSchedule(name, plan_of(settings, name)),
            "args": (entry.job,),
            "options": {"queue": QUEUES[SCHEDULER]},
        }
    return entries


def _safety_net(task: str, every_s: float, **kwargs: bool) -> dict[str, Any]:
    # Messages that nobody takes do not pile up for ever.
    options = {"queue": QUEUES[task], "expires": MESSAGE_EXPIRES_S}
    return {"task": task, "schedule": every_s, "kwargs": kwargs, "options": options}


def tell_of_refused(settings: Settings) -> None:
    """Log which scheduled jobs would be refused if they were due now: their time comes at night, and nobody looks."""
    for name in settings.scheduled_jobs:
        problem = problem_of(settings, name, instant(clock.now()), LOOKED_AT)
        if problem is not None:  # told without the job itself
            logger.error("beat.entry_refused entry=%s: %r", name, problem.__cause__ or problem.key)


def plan_with_ours(app: Celery) -> None:
    """Have `celery beat` of the app run our entries beside its own, unless it has a scheduler of its own choice."""
    if app.conf.beat_scheduler == CELERYS_SCHEDULER:
        app.conf.beat_scheduler = SCHEDULER_OF_BEAT


class SoswBeat(PersistentScheduler):
    """Celery's scheduler with its schedule file, and with ticks that are sent once and not lost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Entries whose tick could not be sent -> when to try again, by the monotonic clock.
        self._unsent: dict[str, float] = {}
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Read what is remembered, and plan. That needs names of labourers alone, so missing code ends nothing."""
        end_if_needed(self.app)
        tell_of_missing(self.app)
        try:
            super().setup_schedule()
        except (ImportError, AttributeError) as problem:
            # Celery begins anew where entries cannot be read, but for classes that had another place in their version.
            file: Any = self  # the stubs do not know what it has of its file
            logger.warning("beat.schedule_of_another_version file=%s: %s", file.schedule_filename, problem)
            self.close()
            for suffix in file.known_suffixes:
                Path(f"{file.schedule_filename}{suffix}").unlink(missing_ok=True)
            super().setup_schedule()

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Bring the remembered entries in line with the configuration: ours, and Celery's own `beat_schedule`."""
        with ending_commands(self.app):
            settings = settings_of(self.app)
            entries = {**beat_entries(settings), **b}
        tell_of_refused(settings)
        for name, entry in entries.items():
            remembered = self.schedule.get(name)
            # With another schedule there is nothing to make up for: what it would have planned was never promised.
            if isinstance(entry, dict) and remembered and _is_other(remembered.schedule, entry["schedule"]):
                del self.schedule[name]
        super().merge_inplace(entries)

    def reserve(self, entry: Any) -> Any:
        """Return the entry's next form. That of a scheduled job still has its tick to send."""
        reserved: Any = super().reserve(entry)
        if isinstance(entry.schedule, TickSchedule):
            reserved.last_run_at = entry.last_run_at
        return reserved

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send what is due. An entry that cannot be sent stops no other one; a tick of a job is tried again."""
        if not isinstance(entry.schedule, TickSchedule):
            super().apply_entry(entry, producer=producer)
            return
        planned = entry.schedule.plan.latest_at_or_before(entry.schedule.now())
        if planned is not None:
            self._send_tick(entry, entry.schedule.name, planned, producer)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send one entry that is due, and the ticks whose time has come again; return the seconds to sleep."""
        delay = super().tick(*args, **kwargs)
        for name, due in list(self._unsent.items()):
            if due <= time.monotonic():
                self.apply_entry(self.schedule[name], producer=self.producer)
        return max(0.0, min([delay, *(due - time.monotonic() for due in self._unsent.values())]))

    def _send_tick(self, entry: Any, name: str, planned: datetime, producer: Any) -> None:
        job_id = tick_job_id(name, planned)
        try:
            self._submit(entry, {**entry.args[0], "job_id": job_id}, producer)
        except InvalidJob as problem:
            # Trying again would not help; the next tick may, after the job was corrected. Told without the value.
            logger.error("beat.tick_refused entry=%s job_id=%s: %r", name, job_id, problem)
        except Exception:
            # The border: whatever broker or table said, the other entries go on and this tick comes again.
            logger.exception("beat.tick_unsent entry=%s job_id=%s again_in_s=%s", name, job_id, RESEND_S)
            self._unsent[entry.name] = time.monotonic() + RESEND_S
            return
        else:
            logger.info("beat.tick_sent entry=%s job_id=%s", name, job_id)
        self._unsent.pop(entry.name, None)
        self.schedule[entry.name].last_run_at = planned
        self.sync()

    def _submit(self, entry: Any, job: dict[str, Any], producer: Any) -> None:
        options = {**entry.options, "headers": {"celery_beat_task": True}, "producer": producer}
        task = self.app.tasks.get(entry.task)
        if task is not None:
            task.apply_async((job,), **options)  # the task's own way to be sent: the job is accepted before the message
        else:
            self.send_task(entry.task, (job,), **options)


class OnlyOurs(SoswBeat):
    """The same without the app's own entries: beside a beat that has a scheduler of its own choice for those."""

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Plan ours."""
        super().merge_inplace({})

    def install_default_entries(self, data: Any) -> None:
        """Leave Celery's entries, as the one that removes old results, to the other beat."""


def _is_other(remembered: Any, schedule: Any) -> bool:
    return isinstance(schedule, TickSchedule) and remembered != schedule
