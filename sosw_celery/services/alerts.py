"""Tells people of dead tasks: gathered, each of them at least once, and beside the sweeps.

One process tells at a time. What was told to all is settled; whoever could not be told is owed those deaths alone from
then on, so nobody is told twice because somebody else cannot be reached. A process that dies between telling and
settling makes the next one tell again.

Source: replaces the messages of sosw's Scavenger, one for each dead task.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal

from sosw_celery.clock import Clock
from sosw_celery.config.alerts import NoticesConfig
from sosw_celery.core.exact import EXACT
from sosw_celery.core.tasks.alert import DeadTask, Owed, notice_of
from sosw_celery.errors import ItemCorrupt, TaskNotFound
from sosw_celery.stores.aws.alert_targets import Target
from sosw_celery.stores.dynamodb.alert_outbox import EVERYBODY, AlertOutbox
from sosw_celery.stores.dynamodb.task_table import TaskTable

__all__ = ["TELL_LIMIT_S", "Notices"]

logger = logging.getLogger(__name__)

#: Deaths that one notice tells of; the others come with the next one.
DEATHS_PER_NOTICE = 10_000
#: Seconds after which telling is killed, and after which another process may tell.
TELL_LIMIT_S = 300


class Notices:
    """Sends what is owed."""

    def __init__(
        self,
        config: NoticesConfig,
        *,
        targets: Mapping[str, Target],
        outbox: AlertOutbox,
        task_table: TaskTable,
        clock: Clock,
    ) -> None:
        self._config = config
        self._targets = targets
        self._outbox = outbox
        self._task_table = task_table
        self._clock = clock

    def tell(self) -> dict[str, int]:
        """Send a notice to each target that is owed one; return how many deaths each of them was told of.

        A target that fails is logged and owed; it keeps no other from being told.

        Raises:
            StoreUnavailable: What is owed stays so.
        """
        started = self._clock()
        fresh = self._outbox.owed(EVERYBODY, DEATHS_PER_NOTICE)
        owed = {name: self._outbox.owed(name, DEATHS_PER_NOTICE) for name in self._targets}
        if not fresh and not any(owed.values()):
            return {}
        if not self._outbox.claim(started, EXACT.add(started, TELL_LIMIT_S)):
            return {}
        # Once more: what was told since is not owed any more.
        fresh = self._outbox.owed(EVERYBODY, DEATHS_PER_NOTICE)
        told = {name: self._tell(name, fresh) for name in self._targets}
        self._outbox.settle(EVERYBODY, fresh)
        # Half of the time: the next tick may come a little early.
        self._outbox.free(EXACT.add(started, Decimal(repr(self._config.every_s / 2))))
        return {name: count for name, count in told.items() if count}

    def _tell(self, name: str, fresh: Sequence[Owed]) -> int:
        """Tell one target what it is owed and what is fresh; return how many that was, 0 when it could not be told."""
        late = self._outbox.owed(name, DEATHS_PER_NOTICE)
        deaths = list(dict.fromkeys([*late, *fresh]))
        if not deaths:
            return 0
        try:
            self._targets[name](notice_of(deaths, self._named(deaths)))
        except Exception:
            logger.warning("notice not sent to %s, trying again: %d dead tasks", name, len(deaths), exc_info=True)
            self._outbox.owe(name, fresh, self._clock())
            return 0
        self._outbox.settle(name, late)
        logger.info("notice sent to %s: %d dead tasks", name, len(deaths))
        return len(deaths)

    def _named(self, deaths: Sequence[Owed]) -> list[DeadTask]:
        return [self._look(death) for death in deaths[: self._config.max_tasks]]

    def _look(self, death: Owed) -> DeadTask:
        try:
            task = self._task_table.find(death.task_id).task
        except (TaskNotFound, ItemCorrupt):  # its row was deleted, or it is dead because it cannot be read
            return DeadTask(death.task_id, death.labourer_id)
        return DeadTask(
            task_id=death.task_id,
            labourer_id=death.labourer_id,
            job_id=task.job_id,
            attempts=task.attempts,
            error=str(task.extra.get("last_error", "")),
            closed_at=None if task.closed_at is None else float(task.closed_at),
        )
