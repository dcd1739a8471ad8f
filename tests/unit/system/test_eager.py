"""Jobs under `task_always_eager`: what a user's unit tests see of them, without any server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from celery import Celery
from celery.result import EagerResult

from sosw_celery import Worker, scheduler
from sosw_celery.errors import ConfigError, InvalidJob
from tests.apps import theirs

SECTION = {"job_schema": {"chunkable_attrs": ["shop"]}, "labourers": {"ask": {}, "elsewhere": {}}}
JOB = {"lambda_name": "ask", "isolate_shops": True, "shops": ["a", "b", "c"]}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app of somebody's, as its tests configure it; no server is behind it."""
    app = theirs(monkeypatch, SECTION)
    app.conf.task_always_eager = True
    return app


@pytest.fixture
def asked(app: Celery) -> list[Any]:
    """The shops that a labourer was asked for; it has no answer for one."""
    shops: list[Any] = []

    @app.task(base=Worker, name="ask")
    def ask(event: Mapping[str, Any]) -> None:
        shops.extend(event["shops"])
        if event["shops"] == ["b"]:
            raise LookupError("b")

    return shops


@pytest.mark.usefixtures("app")
def test_a_job_is_chunked_and_run_where_it_is_submitted(asked: list[Any]) -> None:
    """Each of its tasks once, in their order; what raises is a dead task, and the summary counts it."""
    result = scheduler.apply_async((JOB,), task_id="mine")
    assert asked == ["a", "b", "c"]
    assert isinstance(result, EagerResult)
    found = {name: result.get()[name] for name in ("job_id", "state", "tasks", "completed", "dead")}
    assert found == {"job_id": "mine", "state": "completed_with_dead", "tasks": 3, "completed": 2, "dead": 1}
    well = scheduler.delay({**JOB, "job_id": "own", "shops": ["c"]}).get()
    assert (well["job_id"], well["state"]) == ("own", "completed")


def test_what_a_body_raises_comes_through_where_celery_is_told_so(app: Celery, asked: list[Any]) -> None:
    """By `task_eager_propagates`, as for any other task."""
    app.conf.task_eager_propagates = True
    with pytest.raises(LookupError):
        scheduler.delay(JOB)
    assert asked == ["a", "b"]


@pytest.mark.usefixtures("app")
def test_what_can_be_no_job_is_refused(asked: list[Any]) -> None:
    """As it is with servers: where it is submitted."""
    with pytest.raises(InvalidJob, match="nobody"):
        scheduler.delay({**JOB, "lambda_name": "nobody"})
    with pytest.raises(InvalidJob, match="job_id"):
        scheduler.delay({**JOB, "job_id": 5})
    assert asked == []


@pytest.mark.usefixtures("app")
def test_a_labourer_without_code_is_named() -> None:
    """Its module was not imported; nothing is run."""
    with pytest.raises(ConfigError, match=r"task_always_eager: expected a labourer whose module.*got 'elsewhere'"):
        scheduler.delay({**JOB, "lambda_name": "elsewhere"})
