"""What each process of a pool does when it begins, in a worker that serves labourers."""

from __future__ import annotations

import contextlib
import os

from billiard import pool
from celery.app import app_or_default
from celery.signals import worker_before_create_process, worker_process_init

from sosw_celery.labourer.pool_memory import is_pool_process
from sosw_celery.labourer.serving import asks_tables, our_queues, serves_ours
from sosw_celery.wiring.container import services_of

__all__ = ["lead_a_session", "leave_soon"]

#: Seconds that a process which ends waits until its results have been read.
LAST_RESULTS_S = 1.0


@worker_before_create_process.connect(weak=False)
def load_for_all(**_options: object) -> None:
    """Have a client of DynamoDB made before the pool's processes are forked.

    Each makes one of its own, of what botocore knows of DynamoDB. Where that stands in memory already, they share it,
    and are ready for a first task sooner. What fails here fails there too, where it is told. A worker that has no
    access to DynamoDB makes none: botocore would look for credentials, and wait for the network where there are none.
    """
    app = app_or_default()
    if serves_ours(app):
        with contextlib.suppress(Exception):
            services = services_of(app)
            if asks_tables(services.settings, our_queues(app)):
                _ = services.dynamodb


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
