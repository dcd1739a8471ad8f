"""The stack's addresses and environment, on servers of one's own: none is started here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sosw_celery.local import LocalStack, environment_of
from sosw_celery.local.servers import Server

OWN = {"SOSW_REDIS_URL": "redis://cache.internal:6379/3", "SOSW_DYNAMODB_ENDPOINT": "http://tables.internal:8000"}


@pytest.fixture(autouse=True)
def _own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)


def test_servers_of_ones_own_are_used_and_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names servers, the stack takes these."""
    monkeypatch.setattr(Server, "start", lambda _: pytest.fail("a server was started"))
    with LocalStack() as stack:
        assert stack.redis_url == OWN["SOSW_REDIS_URL"]
        assert stack.dynamodb_endpoint == OWN["SOSW_DYNAMODB_ENDPOINT"]


def test_queue_directory_is_in_the_data_directory_and_stays(tmp_path: Path) -> None:
    """With a data directory, queue files are kept in it."""
    with LocalStack(tmp_path) as stack:
        assert stack.queue_bucket == (tmp_path / "queue").as_uri()
    assert (tmp_path / "queue").is_dir()


def test_queue_directory_of_a_stack_in_memory_ends_with_it() -> None:
    """Without a data directory, queue files are in a temporary directory that the stack removes."""
    with LocalStack() as stack:
        queue = Path(stack.queue_bucket.removeprefix("file://"))
        assert queue.is_dir()
    assert not queue.exists()


def test_environment_keeps_credentials_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and region are made up only where none are set."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with LocalStack() as stack:
        environment = stack.environment()
    assert "AWS_ACCESS_KEY_ID" not in environment
    assert environment["AWS_DEFAULT_REGION"]
    assert environment.items() >= OWN.items()


def test_requests_to_loopback_go_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a proxy is configured, loopback is added to the addresses that go past it."""
    monkeypatch.setenv("http_proxy", "http://proxy.internal:3128")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("no_proxy", "internal")
    with LocalStack() as stack:
        assert stack.environment()["no_proxy"] == "internal,127.0.0.1"


def test_state_file_without_a_running_server_is_no_stack(tmp_path: Path) -> None:
    """What a stack that is gone left behind is not taken for a running one, and no credentials are kept in it."""
    with LocalStack(tmp_path):
        pass
    assert set(json.loads((tmp_path / "stack.json").read_text())) == {*OWN, "SOSW_QUEUE_BUCKET"}
    assert environment_of(tmp_path) is None
