"""What each process of a pool does when it begins, in a worker that serves labourers."""

from __future__ import annotations

import contextlib
import os

from billiard import pool
from celery.signals import worker_process_init

from sosw_celery.labourer.pool_memory import is_pool_process
from sosw_celery.labourer.serving import serves_ours

__all__ = ["lead_a_session", "leave_soon"]

#: Seconds that a process which ends waits until its results have been read.
LAST_RESULTS_S = 1.0


@worker_process_init.connect(weak=False)
def become_ours(**_: object) -> None:
    """Make this pool process one of a worker that serves labourers; others stay as Celery has them."""
    if serves_ours():
        lead_a_session()
        leave_soon()


def lead_a_session() -> None:
    """Have this pool process lead a session of its own, so that what a body started ends with its process."""
    if is_pool_process():
        with contextlib.suppress(PermissionError):  # it leads one already
            os.setsid()


def leave_soon() -> None:
    """Have this process, when it ends, wait for a second at most until the main process has read its last results.

    Of a task that it took up while the node began to shut down, the main process reads none (celery 5.7 forgets the job
    in `AsynPool.flush`), and billiard 4.3 waits for that for 30 s: as long as Kubernetes gives a node to end. The task
    itself is closed by then, in here.
    """
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = int(
        LAST_RESULTS_S / pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL
    )
