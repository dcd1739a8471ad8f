"""What connects the parts with Celery and the servers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import boto3
import fakeredis
import moto
import pytest
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from sosw_celery import clock
from sosw_celery.config.settings import Settings, load_settings
from sosw_celery.core.tasks.model import Task
from sosw_celery.errors import ConfigError, JobNotFound
from sosw_celery.labourer.run_context import WorkerRun
from sosw_celery.labourer.worker import Worker
from sosw_celery.stores.dynamodb.tables import Tables, create_tables, definitions
from sosw_celery.wiring import container
from sosw_celery.wiring.container import services_of

#: Longer than a fork takes.
LONG_S = 0.5


def test_a_fork_makes_services_while_a_thread_of_its_parent_makes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node forks the processes of its pool while its own threads begin to work."""
    is_at_it = threading.Event()

    def read(section: Mapping[str, Any]) -> Settings:
        is_at_it.set()
        time.sleep(LONG_S)
        return load_settings(section)

    monkeypatch.setattr(container, "load_settings", read)
    thread = threading.Thread(target=services_of, args=(_app(),))
    thread.start()
    assert is_at_it.wait(60)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        told = 1
        try:
            told = 0 if services_of(_app()) else 1
        finally:
            os._exit(told)
    assert os.waitpid(pid, 0)[1] == 0
    thread.join()


def _app() -> Celery:
    app = Celery("wiring", broker="memory://", set_as_current=False)
    app.conf.sosw = {"labourers": {"note": {}}}
    return app


def test_the_time_that_nodes_share_is_that_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock of this node says."""
    app = Celery("wiring", broker="memory://", set_as_current=False)
    app.conf.sosw = {"labourers": {"note": {}}}
    services = services_of(app)
    services.__dict__["redis"] = fakeredis.FakeRedis()
    monkeypatch.setattr(services.redis, "time", lambda: (1_700_000_000, 250_000))
    assert services.shared_now() == Decimal("1700000000.25")


def test_without_redis_the_time_is_that_of_the_node() -> None:
    """A failure is written also while Redis is away."""
    app = Celery("wiring", broker="memory://", set_as_current=False)
    app.conf.sosw = {"labourers": {"note": {}}, "redis_url": "redis://127.0.0.1:1/0"}
    services = services_of(app)
    services.redis.connection_pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)
    before = clock.now()
    assert before <= services.shared_now() <= clock.now()


def test_where_a_job_stands_is_told_without_redis() -> None:
    """The overview is given all stores, and asks only those that it needs."""
    app = Celery("wiring", broker="memory://", set_as_current=False)
    app.conf.sosw = {"labourers": {"note": {}}, "redis_url": "redis://127.0.0.1:1/0"}
    with moto.mock_aws():
        services = services_of(app)
        create_tables(services.dynamodb, services.tables)
        with pytest.raises(JobNotFound):
            services.overview.job("nightly")


def test_rows_of_new_tasks_are_sent_once_and_given_up_in_time() -> None:
    """Nothing of them is on its way when somebody else may take the part, or when they are sent again."""
    app = Celery("wiring", broker="memory://", set_as_current=False)
    app.conf.sosw = {"labourers": {"note": {}}, "part_lease_s": 20, "aws_region": "eu-west-1"}
    services = services_of(app)
    for table in (services.task_table, services.hasty_task_table):
        config = table.new_rows.client.meta.config
        assert config.retries["total_max_attempts"] == 1
        assert config.read_timeout == services.settings.row_timeout_s == 2
        assert table.new_rows._held_back_s == services.settings.part_margin_s == 4


def test_a_labourer_posts_where_its_own_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in sosw: into the table of its `meta_handler_config`, though the section has none; written at the end."""

    class Resize(Worker):
        DEFAULT_CONFIG = {"meta_handler_config": {"dynamo_db_config": {"table_name": "resize_meta"}}}

    app = Celery("wiring", broker="memory://", set_as_current=False)
    app.conf.sosw = {"labourers": {"resize": {}}}
    services = services_of(app)
    monkeypatch.setattr("sosw_celery.labourer.worker.services_of", lambda _: services)
    with moto.mock_aws():
        (meta,) = [one for one in definitions(Tables(meta="resize_meta")) if one["TableName"] == "resize_meta"]
        client = boto3.client("dynamodb")
        client.create_table(**meta)
        worker = Resize()
        worker._only_run = WorkerRun(Task("t1", "resize", greenfield=Decimal(1), created_at=Decimal(1), attempts=1))
        assert worker.meta_handler
        worker.meta_handler.post(action="resized", size=9)
        services.flush_history()
        (row,) = client.scan(TableName="resize_meta")["Items"]
        assert (row["task_id"], row["action"], row["size"]) == ({"S": "t1"}, {"S": "resized"}, {"N": "9"})
    assert not services.meta_handler  # the system keeps none


def test_a_wrong_configuration_of_a_labourers_history_is_named() -> None:
    """By its path, its value and what is expected, when the code asks for the history."""
    app = Celery("wiring", broker="memory://", set_as_current=False)
    app.conf.sosw = {"labourers": {"resize": {}}}
    with pytest.raises(ConfigError, match=r"meta_handler_config\.flush_s: expected .* got 0"):
        services_of(app).meta_handler_of({"flush_s": 0})
