"""What `celery inspect`, Flower and `celery report` show of the settings."""

from __future__ import annotations

import types
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.worker.control import Panel

from sosw_celery.system.remote import mask_replies
from tests.apps import like_ours, theirs

ADDRESS = "redis://user:canary@127.0.0.1:6379/0"
HOOK = "https://hooks.example.org/canary"
#: As a module holds them: variables of its own beside Celery's settings.
SETTINGS = {
    "redis_url": ADDRESS,
    "SLACK": HOOK,
    "broker_url": ADDRESS,
    "result_backend": ADDRESS,
    "broker_transport_options": {"sentinel_kwargs": {"password": "canary"}},
    "sosw": {
        "redis_url": ADDRESS,
        "notices": {"webhook": HOOK, "every_s": 60},
        "stored_config": {"headers": {"Authorization": "Bearer canary"}},
    },
}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app whose configuration holds secrets."""
    app = like_ours(monkeypatch, "of-this-test", **SETTINGS)
    yield app
    app.close()


@pytest.mark.parametrize("command", ["conf", "dump_conf"])
@pytest.mark.parametrize("with_defaults", [False, True])
def test_workers_tell_their_settings_without_secrets(app: Celery, command: str, with_defaults: bool) -> None:
    """The answer to `inspect conf`, which Flower's Config tab shows: all settings, no password, by no name."""
    mask_replies()
    mask_replies()
    told = Panel.data[command](types.SimpleNamespace(app=app), with_defaults=with_defaults)
    assert "canary" not in str(told)
    assert told["sosw"]["redis_url"] == told["redis_url"] == "redis://user:***@127.0.0.1:6379/0"
    assert told["sosw"]["notices"] == {"webhook": "***", "every_s": 60}
    assert told["SLACK"] == "***"


def test_a_report_shows_no_secrets(app: Celery) -> None:
    """People paste it into bug reports."""
    told = app.bugreport()
    assert "canary" not in told
    assert "redis://user:***@127.0.0.1:6379/0" in told
    assert "software -> celery" in told


def test_of_somebodys_app_the_section_alone_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other settings are told as Celery tells them."""
    app = theirs(monkeypatch, {})
    app.conf.update(sosw={"redis_url": ADDRESS}, own_hook=HOOK)
    mask_replies()
    told = Panel.data["conf"](types.SimpleNamespace(app=app))
    assert told["sosw"] == {"redis_url": "redis://user:***@127.0.0.1:6379/0"}
    assert told["own_hook"] == HOOK
    assert HOOK in app.bugreport()
