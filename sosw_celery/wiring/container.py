"""Builds stores and services from the settings: lazily, once per process, and anew after a fork.

Nothing connects before its first use, so commands that need no server start without one.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import boto3

from sosw_celery import clock
from sosw_celery.celery import section_of
from sosw_celery.config.history import MetaHandlerConfig
from sosw_celery.config.settings import Settings, greenfield_delta, load_settings
from sosw_celery.core.tasks.history import Observer, Origin, nobody
from sosw_celery.errors import StoreError
from sosw_celery.services.alerts import Notices
from sosw_celery.services.assisted_attempts import AssistedAttempts
from sosw_celery.services.attempts import Attempts
from sosw_celery.services.durations import DurationLog
from sosw_celery.services.ecology import Ecology
from sosw_celery.services.hint_publisher import HintPublisher
from sosw_celery.services.history import MetaHandler
from sosw_celery.services.lease_clock import LeaseClock
from sosw_celery.services.orchestrator import Orchestrator
from sosw_celery.services.overview import Overview
from sosw_celery.services.scavenger import Scavenger
from sosw_celery.services.scheduler import Scheduler, scheduler_class
from sosw_celery.services.siblings import Siblings
from sosw_celery.services.starts import Starts
from sosw_celery.services.worker_assistant import WorkerAssistant
from sosw_celery.stores.aws.alert_targets import targets_from
from sosw_celery.stores.aws.lambda_functions import LambdaFunctions
from sosw_celery.stores.aws.metric_sources import Source, sources_from
from sosw_celery.stores.aws.stored_config import CachedConfig, ConfigSource, DynamoConfig, SsmConfig
from sosw_celery.stores.dynamodb import client as dynamodb_client
from sosw_celery.stores.dynamodb.alert_outbox import AlertOutbox
from sosw_celery.stores.dynamodb.history_table import HistoryTable
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.tables import Tables
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.files.queue_files import QueueFiles, queue_files_from
from sosw_celery.stores.redis import client as redis_client
from sosw_celery.stores.redis.idle_flag import IdleFlag
from sosw_celery.stores.redis.metric_cache import MetricCache
from sosw_celery.stores.redis.node_registry import NodeRegistry
from sosw_celery.stores.redis.slots import Slots
from sosw_celery.stores.redis.turns import Turns
from sosw_celery.wiring.messenger import CeleryMessenger

if TYPE_CHECKING:
    import redis
    from celery import Celery
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

__all__ = ["Services", "has_services", "services_of", "settings_of"]

#: How often a pass or a sweep sends a request at most.
HASTY_SENDS = 3


class Services:
    """Everything that one process needs, each built when it is first asked for.

    Parameters:
        configured_at: When the settings were read, by `clock.steady`; by default now.
    """

    def __init__(self, app: Celery, settings: Settings, configured_at: float | None = None) -> None:
        self._app = app
        self.settings = settings
        #: By the text of their configuration.
        self._own_meta_handlers: dict[str, MetaHandler] = {}
        self.configured_at = clock.steady() if configured_at is None else configured_at
        self.node = f"{socket.gethostname()}/{os.getpid()}"

    @cached_property
    def tables(self) -> Tables:
        """Names of the tables."""
        return Tables.from_settings(self.settings)

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        """The one client of DynamoDB."""
        return dynamodb_client.connect(
            endpoint_url=self.settings.dynamodb_endpoint, region_name=self.settings.aws_region
        )

    @cached_property
    def hasty_dynamodb(self) -> DynamoDBClient:
        """The client of passes and sweeps, which gives up after a second or two.

        They come again by themselves, and a process that waits for one labourer's tables is not there for the others.
        """
        settings = self.settings
        return dynamodb_client.connect(
            endpoint_url=settings.dynamodb_endpoint, region_name=settings.aws_region, sends=HASTY_SENDS
        )

    @cached_property
    def s3(self) -> S3Client:
        """The one client of S3; asked for only where the queue bucket is one."""
        return boto3.client("s3", endpoint_url=self.settings.s3_endpoint, region_name=self.settings.aws_region)

    @cached_property
    def redis(self) -> redis.Redis:
        """The one client of Redis."""
        return redis_client.connect(self.settings.redis_url)

    @cached_property
    def slots(self) -> Slots:
        """Who runs."""
        return Slots(self.redis, prefix=self.settings.redis_prefix)

    @cached_property
    def nodes(self) -> NodeRegistry:
        """What the worker nodes of the cluster say of themselves."""
        return NodeRegistry(self.redis, prefix=self.settings.redis_prefix)

    @cached_property
    def job_table(self) -> JobTable:
        """Where jobs stand."""
        return JobTable(self.dynamodb, self.tables)

    @cached_property
    def task_table(self) -> TaskTable:
        """The truth about every task."""
        return self._task_table(self.dynamodb)

    @cached_property
    def hasty_task_table(self) -> TaskTable:
        """The same for passes and sweeps."""
        return self._task_table(self.hasty_dynamodb)

    def _task_table(self, client: DynamoDBClient) -> TaskTable:
        return TaskTable(
            client,
            self.tables,
            delta=greenfield_delta(self.settings),
            job_counters=self.job_table.counters_update,
            new_rows_client=self._new_rows_client,
            held_back_s=self.settings.part_margin_s,
            observe=self._observer,
            owe_notice=self.outbox.put_request if self.settings.tells_of_dead_tasks else None,
        )

    def _new_rows_client(self) -> DynamoDBClient:
        """Return the client for rows of new tasks, which sends a request once and gives up early (`NewRows`)."""
        settings = self.settings
        return dynamodb_client.connect(
            endpoint_url=settings.dynamodb_endpoint,
            region_name=settings.aws_region,
            sends=1,
            timeout_s=settings.row_timeout_s,
        )

    @cached_property
    def lambda_functions(self) -> LambdaFunctions:
        """The Lambda functions that are labourers."""
        return LambdaFunctions(self.settings.aws_region)

    @cached_property
    def outbox(self) -> AlertOutbox:
        """Dead tasks that somebody has yet to be told of."""
        return AlertOutbox(self.dynamodb, self.tables)

    @cached_property
    def notices(self) -> Notices:
        """Tells of dead tasks."""
        return Notices(
            self.settings.notices,
            targets=targets_from(self.settings),
            outbox=self.outbox,
            task_table=self.task_table,
            clock=clock.now,
        )

    @cached_property
    def meta_table(self) -> HistoryTable:
        """The history of tasks."""
        return HistoryTable(self._history_client, self.tables.meta)

    @cached_property
    def _history_client(self) -> DynamoDBClient:
        """A client of the history's own, so that a slow history uses up no connection of the work."""
        return dynamodb_client.connect(
            endpoint_url=self.settings.dynamodb_endpoint, region_name=self.settings.aws_region
        )

    @cached_property
    def meta_handler(self) -> MetaHandler:
        """Writes the history of tasks, where one is kept."""
        return MetaHandler(
            self.settings.meta_handler_config, table=lambda: self.meta_table, origin=self._origin, clock=clock.now
        )

    def meta_handler_of(self, config: Mapping[str, Any] | None) -> MetaHandler:
        """Return who keeps what a labourer's own code posts: where its `meta_handler_config` says, else as all events.

        Raises:
            ConfigError: The configuration is wrong.
        """
        if not config:
            return self.meta_handler
        key = json.dumps(config, sort_keys=True, default=str)
        if key not in self._own_meta_handlers:
            own = load_settings({"meta_handler_config": config}).meta_handler_config or MetaHandlerConfig()
            self._own_meta_handlers[key] = MetaHandler(
                own,
                table=lambda: HistoryTable(self._history_client, own.dynamo_db_config.table_name),
                origin=self._origin,
                clock=clock.now,
            )
        return self._own_meta_handlers[key]

    def flush_history(self) -> None:
        """Have the events that wait in this process written."""
        for handler in (self.meta_handler, *self._own_meta_handlers.values()):
            handler.flush()

    @property
    def _observer(self) -> Observer:
        return self.meta_handler.observe if self.meta_handler else nobody

    @cached_property
    def queue_files(self) -> QueueFiles:
        """Where chunked rows wait to be written."""
        return queue_files_from(self.settings, lambda: self.s3)

    @cached_property
    def scheduler(self) -> Scheduler:
        """Turns jobs into rows."""
        return scheduler_class(self.settings)(self.settings, **self.parts_of_scheduler)

    @property
    def parts_of_scheduler(self) -> dict[str, Any]:
        """What a Scheduler stands on."""
        return {
            "task_table": self.task_table,
            "job_table": self.job_table,
            "queue_files": self.queue_files,
            "messenger": self.messenger,
            "clock": clock.now,
            "lease_clock": LeaseClock(clock.now, lambda: self.slots.now()),
            "observe": self._observer,
        }

    @cached_property
    def metric_sources(self) -> Mapping[str, Source]:
        """Who can be asked for metrics."""
        config = self.settings.ecology_config
        return sources_from(config, region_name=self.settings.aws_region, clock=clock.now)

    @cached_property
    def ecology(self) -> Ecology:
        """How healthy labourers are."""
        return Ecology(
            self.settings,
            MetricCache(self.redis, prefix=self.settings.redis_prefix),
            lambda: self.metric_sources,
            recovered=self.messenger.request_dispatch,
        )

    @cached_property
    def durations(self) -> DurationLog:
        """How long labourers' tasks take."""
        looked_at = self.settings.task_config.max_closed_to_analyse_for_duration
        return DurationLog(self.task_table, looked_at=looked_at)

    @cached_property
    def overview(self) -> Overview:
        """Where things stand, for people and programs that look."""
        return Overview(
            self.settings,
            task_table=self.task_table,
            job_table=self.job_table,
            slots=self.slots,
            nodes=self.nodes,
            ecology=self.ecology,
            durations=self.durations,
            meta_table=lambda: self.meta_table,
            clock=clock.now,
        )

    @cached_property
    def orchestrator(self) -> Orchestrator:
        """Hands tasks out."""
        return Orchestrator(
            self.settings,
            self.hasty_task_table,
            self.slots,
            hints=self.hint_publisher,
            messenger=self.messenger,
            clock=clock.now,
            turns=self.turns,
            is_first_start=lambda labourer_id: self.job_table.begin_labourer(labourer_id, clock.now()),
            share_of=self.ecology.share_of,
            started_at=lambda: self.started_at,
        )

    @cached_property
    def attempts(self) -> Attempts:
        """Begins and ends attempts."""
        return self._attempts(self.task_table, self.job_table)

    def _attempts(self, task_table: TaskTable, job_table: JobTable) -> Attempts:
        return Attempts(
            self.settings,
            task_table,
            self.slots,
            node=self.node,
            hints=self.hint_publisher,
            messenger=self.messenger,
            job_ended=lambda job_id: job_table.finish_if_done(job_id, clock.now()),
            clock=clock.now,
            shared_clock=self.shared_now,
            share_of=self.ecology.share_of,
        )

    @cached_property
    def starts(self) -> Starts:
        """Has bodies wait for the rate."""
        return Starts(self.slots)

    @cached_property
    def messenger(self) -> CeleryMessenger:
        """Sends everything that is sent."""
        return CeleryMessenger(self._app, lambda: self.slots, observe=self._observer)

    @cached_property
    def hint_publisher(self) -> HintPublisher:
        """Publishes hints."""
        return HintPublisher(
            self.settings,
            lambda: self.task_table,
            self.slots,
            messenger=self.messenger,
            node=self.node,
            clock=clock.now,
        )

    @cached_property
    def assisted(self) -> AssistedAttempts:
        """Begins attempts in workers that have no access to the tables."""
        return AssistedAttempts(self.settings, self.slots, messenger=self.messenger)

    @cached_property
    def siblings(self) -> Siblings:
        """Queues tasks that running ones ask for."""
        return Siblings(self.settings, self.task_table, messenger=self.messenger, clock=clock.now)

    @cached_property
    def worker_assistant(self) -> WorkerAssistant:
        """Closes attempts for workers that cannot."""
        return WorkerAssistant(self.attempts, self.siblings)

    @cached_property
    def stored_config(self) -> CachedConfig | None:
        """The part of labourers' configuration that is kept outside of the code; None when there is none."""
        stored = self.settings.stored_config
        if stored.source is None:
            return None
        source: ConfigSource = (
            DynamoConfig(self.dynamodb, stored.table_name, stored.env)
            if stored.source == "dynamo"
            else SsmConfig(boto3.client("ssm", region_name=self.settings.aws_region), stored.ssm_prefix)
        )
        return CachedConfig(source, stored.refresh_s)

    @cached_property
    def idle_mark(self) -> IdleFlag:
        """Says that no job is unfinished."""
        return IdleFlag(self.redis, prefix=self.settings.redis_prefix)

    @cached_property
    def turns(self) -> Turns:
        """Whose turn it is to sweep."""
        return Turns(self.redis, prefix=self.settings.redis_prefix)

    @cached_property
    def scavenger(self) -> Scavenger:
        """Sweeps up."""
        job_table = JobTable(self.hasty_dynamodb, self.tables)
        return Scavenger(
            self.settings,
            self.hasty_task_table,
            job_table,
            self.slots,
            self._attempts(self.hasty_task_table, job_table),
            turns=self.turns,
            idle_mark=self.idle_mark,
            messenger=self.messenger,
            resume_job=lambda record, now: self.scheduler.resume(record, now),
            begin_due=lambda: self.scheduler.begin_due(),
            clock=self.shared_now,
            own_clock=clock.now,
        )

    def shared_now(self) -> Decimal:
        """Return the time by Redis' clock; by that of this node while Redis does not answer."""
        try:
            return self.slots.now()
        except StoreError:
            return clock.now()

    @cached_property
    def started_at(self) -> float:
        """When this process got its configuration, in seconds since the epoch by Redis' clock, to the millisecond."""
        return round(float(self.slots.now()) - (clock.steady() - self.configured_at), 3)

    def _origin(self) -> Origin:
        """Tell which Celery task acts in this thread; beside one, in the main process of a worker, it is the node."""
        task = self._app.current_worker_task
        if task is None:
            return Origin("sosw_celery", "", self.node)
        return Origin(task.name or "", task.request.id or "", task.request.hostname or self.node)


_lock = threading.RLock()
# A process that is forked while a thread makes services would find the lock taken for ever.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
#: Where an app keeps its services, with the process that built them.
_ATTRIBUTE = "_sosw_services"


def services_of(app: Celery) -> Services:
    """Return this process's services for the app; a forked child gets its own, with connections of its own."""
    pid, services = vars(app).get(_ATTRIBUTE, (0, None))
    if services is not None and pid == os.getpid():
        return cast(Services, services)
    with _lock:
        pid, services = vars(app).get(_ATTRIBUTE, (0, None))
        if services is None or pid != os.getpid():
            if services is None:
                services = Services(app, load_settings(section_of(app)))
            else:  # a fork has the configuration of the process that it is one of, and is as old
                services = Services(app, services.settings, services.configured_at)
            setattr(app, _ATTRIBUTE, (os.getpid(), services))
        return cast(Services, services)


def has_services(app: Celery) -> bool:
    """Return whether this process, or the one that it was forked from, has asked for the services of the app."""
    return _ATTRIBUTE in vars(app)


def settings_of(app: Celery) -> Settings:
    """Return the checked `sosw` section of the app's configuration.

    Raises:
        ConfigError: It cannot be used; names the key.
    """
    return services_of(app).settings
