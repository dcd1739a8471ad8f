"""What the processes of a pool share, and what each does when it begins."""

from __future__ import annotations

import pytest
from celery import Celery

from sosw_celery.node import pool_process
from sosw_celery.wiring.container import has_services, services_of
from tests.apps import theirs


@pytest.mark.parametrize(
    ("queues", "is_made"),
    [
        (["resize"], True),
        (["sosw_scheduler"], True),
        (["mails"], False),
        (["assisted"], False),
        (["assisted", "resize"], True),
        (["assisted", "mails"], False),
    ],
)
def test_botocore_is_read_once_for_all_processes(
    monkeypatch: pytest.MonkeyPatch, queues: list[str], is_made: bool
) -> None:
    """Before they are forked, and only where they will ask DynamoDB: a worker without access to it looks for none."""
    labourers = {"resize": {}, "assisted": {"close_through": "assistant"}}
    app = theirs(monkeypatch, {"labourers": labourers, "aws_region": "eu-west-1"})
    app.amqp.queues.select(queues)
    monkeypatch.setattr(pool_process, "app_or_default", lambda: app)
    pool_process.load_for_all()
    assert (has_services(app) and "dynamodb" in vars(services_of(app))) is is_made


def test_an_app_without_the_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its queues are called."""
    app = Celery("plain", broker="memory://", set_as_current=False)
    app.amqp.queues.select(["sosw_scheduler"])
    monkeypatch.setattr(pool_process, "app_or_default", lambda: app)
    pool_process.load_for_all()
    assert not has_services(app)


def test_what_cannot_be_read_before_the_fork_hinders_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each meets the same, and tells of it where it is told."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}})
    app.amqp.queues.select(["resize"])
    monkeypatch.setattr(pool_process, "app_or_default", lambda: app)
    monkeypatch.setattr(pool_process, "services_of", lambda app: 1 / 0)
    pool_process.load_for_all()
