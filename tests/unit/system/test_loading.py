"""How the app's code and configuration are loaded, and who needs which of it."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from typing import Any

import click
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner

from sosw_celery.cli import sosw
from sosw_celery.errors import ConfigError
from sosw_celery.names import QUEUES
from sosw_celery.system.loading import MissingCode, NeededCode, ending_commands, missing_code
from tests.apps import like_ours

PROBLEM = ConfigError("sosw.labourers.resize.worker", "images:Resize", "a module that can be imported")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app that lacks the code of `resize`."""
    app = like_ours(monkeypatch, "of-this-test", broker_url="memory://", sosw={"labourers": {"resize": {}}})
    missing_code(app).append(MissingCode(PROBLEM, "resize"))
    return app


def node_on(app: Celery, *queues: str) -> NeededCode:
    """Have a node start that takes from these queues."""
    app.amqp.queues.select(queues)
    return NeededCode(types.SimpleNamespace(app=app))


@pytest.mark.parametrize("queues", [["crop"], [*QUEUES.values()], ["crop", *QUEUES.values()]])
def test_others_do_without_the_code_of_a_labourer(
    app: Celery, queues: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The essentials and the nodes of other labourers start, and log what is missing."""
    with caplog.at_level(logging.ERROR):
        node_on(app, *queues)
    assert str(PROBLEM) in caplog.text


def test_a_node_of_the_labourer_does_not_start_without_its_code(app: Celery) -> None:
    """It would refuse each of its messages."""
    with pytest.raises(ConfigError, match="images:Resize"):
        node_on(app, "crop", "resize")


@pytest.mark.parametrize(
    "section",
    [{"scheduler_class": "nowhere:OurScheduler"}, {"custom_period_patterns": {"of_ours": "nowhere:days"}}],
)
def test_essentials_without_the_code_of_their_scheduler_say_so(
    section: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start, since tasks that are there go on; a node without the Scheduler's queue has nothing to say."""
    app = like_ours(monkeypatch, "of-this-test", broker_url="memory://", sosw=section)
    with caplog.at_level(logging.ERROR):
        node_on(app, QUEUES["scheduler"])
    assert "No module named 'nowhere'" in caplog.text
    caplog.clear()
    node_on(app, "resize")
    assert not caplog.text


@pytest.mark.parametrize(("queue", "starts"), [("crop", False), (QUEUES["scheduler"], True)])
def test_a_module_of_imports_may_hold_any_labourer(queue: str, starts: bool) -> None:
    """So without it no node of a labourer starts; the essentials do."""
    assert MissingCode(PROBLEM).is_needed_for(frozenset({queue})) is not starts


Run = Callable[[Any], None]


def celery_command(app: Celery, body: Callable[[], None]) -> click.Group:
    """Return the group of Celery's program on this app, with the command `body` and with ours."""

    @click.group()
    @click.pass_context
    def celery(context: click.Context) -> None:
        context.obj = CLIContext(app=app, no_color=True, workdir=None)

    celery.add_command(click.Command("body", callback=body))
    celery.add_command(sosw)
    return celery


def test_in_a_command_of_celery_an_error_is_its_line_and_its_code(app: Celery) -> None:
    """As in our own commands: no traceback, exit code 7."""

    def body() -> None:
        with ending_commands(app):
            raise PROBLEM

    done = CliRunner().invoke(celery_command(app, body), ["body"])
    assert (done.exit_code, done.stderr) == (7, f"error: {PROBLEM}\n")


def test_elsewhere_an_error_is_raised(app: Celery) -> None:
    """In a program, and in a command of Celery's on the app of somebody else, which may catch it."""

    def body() -> None:
        with ending_commands(app):
            raise PROBLEM

    with pytest.raises(ConfigError):
        body()
    other = Celery("somebody else's", broker="memory://", set_as_current=False)
    done = CliRunner().invoke(celery_command(other, body), ["body"])
    assert done.exception is PROBLEM
