"""What a worker node says when it starts of what will not work: a line each, instead of silence.

Nothing here ends a node. Its queues and its code are looked at in the main process; the stores are asked in a thread,
so that one that hangs holds nothing up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any

from celery import bootsteps

from sosw_celery.celery import is_ours
from sosw_celery.config.masking import masked
from sosw_celery.errors import StoreError, TaskNotFound
from sosw_celery.labourer.serving import Serves, asks_tables, our_queues, serves
from sosw_celery.labourer.worker import Worker
from sosw_celery.names import QUEUES
from sosw_celery.system.exits import CONFIGURED_WRONG, line_of
from sosw_celery.system.loading import is_node
from sosw_celery.system.own_worker import BOTH_KINDS
from sosw_celery.text import did_you_mean
from sosw_celery.wiring.container import Services, services_of

__all__ = ["StartChecks", "problems_of_queues"]

logger = logging.getLogger(__name__)

#: Asked for to see whether the tables are there; no task has this id.
NO_TASK = "sosw-celery-start-check"


class StartChecks(bootsteps.StartStopStep):
    """Worker bootstep: tells what is missing for the work that the node was started for."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, worker: Any) -> bool:
        """Return whether the node is there for work of ours."""
        return is_node(worker.app)

    def create(self, worker: Any) -> Any:
        """Return the step itself as what is started."""
        return self

    def start(self, worker: Any) -> None:
        """Look at queues and code, and have the stores asked."""
        app = worker.app
        services = services_of(app)
        queues = tuple(app.amqp.queues.consume_from)
        if serves(app) is Serves.BOTH and not is_ours(app):
            logger.warning(BOTH_KINDS)
            queues = tuple(our_queues(app))
        coded = {name for name, task in app.tasks.items() if isinstance(task, Worker)}
        for problem in problems_of_queues(queues, services.settings.labourers, coded):
            logger.warning(problem)
        ours = {*QUEUES.values(), *services.settings.labourers}
        if ours.intersection(queues):
            threading.Thread(target=_ask_stores, args=(services, queues), name="sosw-start-checks", daemon=True).start()

    def stop(self, worker: Any) -> None:
        """Do nothing: the thread ends by itself."""

    def terminate(self, worker: Any) -> None:
        """Do nothing: the thread ends by itself."""


def problems_of_queues(queues: Iterable[str], labourers: Collection[str], coded: Collection[str]) -> list[str]:
    """Return a line for each queue that a node takes messages from in vain.

    Parameters:
        queues: Of the node.
        labourers: Those that are configured.
        coded: Those whose code was imported.
    """
    own, queues = frozenset(QUEUES.values()), list(queues)
    known = [*labourers, *dict.fromkeys(QUEUES.values())]
    if not set(queues) & {*known, *coded}:
        example = next(iter(labourers), "LABOURER_ID")
        unknown = ", ".join(f"{queue!r}{did_you_mean(queue, known)}" for queue in queues)
        return [
            f"this node serves no labourer and does none of the system's work (its queues: {unknown}); "
            f"start it with -Q {example}, or with -Q {','.join(dict.fromkeys(QUEUES.values()))}"
        ]
    problems = []
    for queue in queues:
        if queue in coded and queue not in labourers:
            problems.append(f"labourer {queue!r} has code here and is not configured: expected sosw.labourers.{queue}")
        elif queue not in known:
            problems.append(f"queue {queue!r} is neither a labourer's nor the system's{did_you_mean(queue, known)}")
        elif queue not in own and queue not in coded:
            problems.append(
                f"labourer {queue!r} has no code here, its tasks wait: name its module in `imports`, "
                f"or its class in sosw.labourers.{queue}.worker"
            )
    return problems


def _ask_stores(services: Services, queues: Collection[str]) -> None:
    """Log what the stores of this node refuse, with what is to be done; one that is away is told of by its users."""
    settings = services.settings
    _tell(services.slots.now, masked(settings.redis_url))
    if asks_tables(settings, queues):
        _tell(lambda: services.task_table.find(NO_TASK), "")


def _tell(ask: Callable[[], object], address: str) -> None:
    try:
        ask()
    except TaskNotFound:
        return
    except StoreError as problem:
        # A role with the least privileges may not read every table; what it needs, it has.
        if problem.code in CONFIGURED_WRONG and not problem.code.startswith("AccessDenied"):
            logger.error(line_of(problem, {problem.store: address}).removeprefix("error: "))
        else:
            logger.info("not checked: %s", problem)
    except Exception:
        logger.exception("the stores could not be asked")
