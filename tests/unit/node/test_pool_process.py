"""What the processes of a pool share, and what each does when it begins."""

from __future__ import annotations

import pytest

from sosw_celery.node import pool_process
from sosw_celery.wiring.container import has_services, services_of
from tests.apps import theirs


@pytest.mark.parametrize(("queue", "is_ours"), [("resize", True), ("sosw_scheduler", True), ("mails", False)])
def test_botocore_is_read_once_for_all_processes(monkeypatch: pytest.MonkeyPatch, queue: str, is_ours: bool) -> None:
    """Before they are forked, and only where they will ask DynamoDB."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}, "aws_region": "eu-west-1"})
    app.amqp.queues.select([queue])
    monkeypatch.setattr(pool_process, "app_or_default", lambda: app)
    pool_process.load_for_all()
    assert (has_services(app) and "dynamodb" in vars(services_of(app))) is is_ours


def test_what_cannot_be_read_before_the_fork_hinders_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each meets the same, and tells of it where it is told."""
    app = theirs(monkeypatch, {"labourers": {"resize": {}}})
    app.amqp.queues.select(["resize"])
    monkeypatch.setattr(pool_process, "app_or_default", lambda: app)
    monkeypatch.setattr(pool_process, "services_of", lambda app: 1 / 0)
    pool_process.load_for_all()
