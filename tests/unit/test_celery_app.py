"""The app's own defaults beside the configuration, and what it says in logs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.bootsteps import StartStopStep

from sosw_celery.celery import app
from sosw_celery.celery_fixes import log_privacy
from sosw_celery.system.defaults import DEFAULTS

ROOT = Path(__file__).parents[2]


def settings_with(directory: Path, lines: str) -> dict[str, Any]:
    """Return Celery's settings in effect with a configuration, in a process of its own."""
    (directory / "own_config.py").write_text(f"sosw = {{}}\n{lines}\n")
    program = "import json; from sosw_celery import app; print(json.dumps({name: app.conf[name] for name in %r}))"
    environment = {**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}", "CELERY_CONFIG_MODULE": "own_config"}
    command = [sys.executable, "-c", program % sorted(DEFAULTS)]
    answer = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_the_configuration_overrides_our_defaults_and_nothing_else_does(tmp_path: Path) -> None:
    """What celeryconfig.py states holds; what it does not state is ours, not Celery's."""
    found = settings_with(tmp_path, "result_expires = 5\nworker_prefetch_multiplier = 3")
    assert (found.pop("result_expires"), found.pop("worker_prefetch_multiplier")) == (5, 3)
    assert found == {name: DEFAULTS[name] for name in found}


def test_a_cold_shutdown_takes_every_step() -> None:
    """A step that is itself what it starts has to say how it ends: Celery would call it without the worker."""
    app.loader.import_default_modules()
    parent = SimpleNamespace(app=app)
    steps = [step(parent) for step in app.steps["worker"] if issubclass(step, StartStopStep)]
    assert len(steps) >= 5
    for step in steps:
        step.obj = step if type(step).create is not StartStopStep.create else None
        step.terminate(parent)


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ({"task_id": "t", "labourer_id": "l", "attempt": 1}, "{'task_id': 't', 'labourer_id': 'l', 'attempt': 1}"),
        ({"sosw": {"job_id": "j", "part": 2}}, "{'job_id': 'j', 'part': 2}"),
        ({"task_id": "t", "claimed": {"payload": "secret"}, "stats": {"secret": 1}}, "{'task_id': 't'}"),
        ({"task_id": {"secret": 1}, "lambda_name": "secret"}, "{}"),
        ("resize", "'resize'"),
        ('{"lambda_name": "secret"}', log_privacy.HIDDEN),
        (["secret"], log_privacy.HIDDEN),
    ],
)
def test_messages_carry_ids_alone_for_monitors(argument: Any, shown: str) -> None:
    """The copy of a message's arguments holds its ids, and nothing that may be of a job."""
    options = log_privacy.shown_arguments((argument,), {"wake": "secret"})
    assert options["argsrepr"] == f"({shown})"
    assert "secret" not in str(options)


def test_what_a_handler_of_ones_own_gets_with_a_record_is_hidden_as_well() -> None:
    """A handler that writes a record's data as JSON shows no arguments and no results."""
    context = {"id": "1", "name": "resize", "args": "secret", "kwargs": "secret", "return_value": "secret"}
    record = logging.LogRecord("celery.app.trace", logging.INFO, "f", 1, "%(name)s: %(return_value)s", (context,), None)
    record.data = context
    assert log_privacy._hide_trace(record)
    assert record.getMessage() == "resize: (not shown)"
    assert "secret" not in str(record.data)
    assert context["args"] == "secret"  # others may need it


def run(directory: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, in a directory that nothing else can import from."""
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=directory, capture_output=True, text=True, check=False
    )


THEIRS = """
import sys, logging
sys.path.insert(0, "")
import celery
from celery import _state

def watched():
    loggers = ("", "celery", "celery.app.trace", "celery.beat", "celery.pool", "celery.worker.strategy", "botocore")
    return [(name, log.level, log.filters, log.handlers) for name in loggers for log in [logging.getLogger(name)]]

if sys.argv[1:] == ["before"]:
    from sosw_celery import scheduler
proj = celery.Celery("proj", broker="memory://")
before, path = watched(), list(sys.path)

@celery.shared_task(name="send_mail")
def send_mail(to):
    pass

from sosw_celery import Worker, app, scheduler
app.conf.broker_url, app.tasks
assert watched() == before, (watched(), before)
assert celery.current_app._get_current_object() is proj
assert _state.default_app is not app, "what other threads fall back to"
assert not proj.finalized
assert send_mail.app is proj
with proj.connection_for_write() as connection:
    send_mail.apply_async(("you@there",), connection=connection)
    message = connection.SimpleQueue("celery").get_nowait()
assert message.headers["argsrepr"] == "('you@there',)", message.headers
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_importing_us_changes_nothing_for_another_app(tmp_path: Path, order: str) -> None:
    """Before or after its own app is made, in a project of Django too: its tasks, logs and messages stay its own."""
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'memory://'\nsosw = {}\n")
    django = tmp_path / "django"  # as much of it as Celery looks for
    django.mkdir()
    (django / "__init__.py").write_text("VERSION = (5, 2)\n")
    (django / "conf.py").write_text("settings = object()\n")
    (django / "db.py").write_text("transaction = None\n")
    (tmp_path / "theirs.py").write_text(THEIRS)
    done = subprocess.run(
        [sys.executable, "theirs.py", order],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "proj.settings"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "configuration: expected a module that is found from"),
        ("sosw = {'labourerz': {}}", "sosw.labourerz: expected a known key (did you mean 'labourers'?)"),
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all', at celeryconfig.py line 1"),
        ("raise SystemExit(3)", "SystemExit: 3, at celeryconfig.py line 1"),
    ],
)
def test_a_program_gets_the_error_of_the_configuration_itself(tmp_path: Path, config: str | None, message: str) -> None:
    """What `scheduler.delay` raises is the ConfigError, whatever is wrong with the configuration."""
    if config is not None:
        (tmp_path / "celeryconfig.py").write_text(config)
    program = """
from sosw_celery.errors import ConfigError
try:
    from sosw_celery import scheduler
    scheduler.delay({"lambda_name": "resize"})
except ConfigError as problem:
    print(problem)
"""
    done = run(tmp_path, program)
    assert message in done.stdout, done.stderr


def test_importing_the_app_loads_nothing_of_the_system(tmp_path: Path) -> None:
    """A project can install it, and a command can be found, without the second that clients take to import."""
    program = """
import sys
import sosw_celery.celery
from sosw_celery import install
heavy = ("boto3", "botocore", "redis", "pydantic", "sosw_celery.services", "sosw_celery.stores", "sosw_celery.wiring")
print([name for name in heavy if name in sys.modules])
"""
    assert run(tmp_path, program).stdout.strip() == "[]"


def test_which_app_is_meant_where_none_is_named(tmp_path: Path) -> None:
    """The current one that has the system; else the only one; else ours; and never one of several by chance."""
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'memory://'\nsosw = {}\n")
    program = """
from celery import Celery
from sosw_celery import install, scheduler
from sosw_celery.errors import ConfigError
plain = Celery("plain")
print(scheduler.app.main)
one = install(Celery("one", set_as_current=False), {})
print(scheduler.app.main)
two = install(Celery("two", set_as_current=False), {})
try:
    scheduler.app
except ConfigError as problem:
    print(problem)
two.set_current()
print(scheduler.app.main)
"""
    lines = run(tmp_path, program).stdout.splitlines()
    expected = "the current app: expected one of those that have the system: one, two (app.set_current()), got 'plain'"
    assert lines == ["sosw_celery", "one", expected, "two"]


def test_an_app_has_one_section(tmp_path: Path) -> None:
    """Installing twice changes nothing; with another section it is an error."""
    program = """
from celery import Celery
from sosw_celery import install
from sosw_celery.errors import ConfigError
app = Celery("one")
assert install(install(app, {"lease_s": 9}), {"lease_s": 9}) is install(app)
try:
    install(app, {"lease_s": 8})
except ConfigError as problem:
    print(problem)
"""
    assert run(tmp_path, program).stdout.startswith("install(app, config): expected what this app was installed with")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('install("x")', "install(app): expected a Celery app: install(Celery(...)), got 'x'"),
        ("install(Celery)", "install(app): expected a Celery app: install(Celery(...)), got"),
        ("install(Celery('one'), 5)", "install(app, config): expected a dict, the section `sosw`, got"),
        (
            "install(install(Celery('one'), SECRET), {})",
            "install(app, config): expected what this app was installed with",
        ),
        ("settings_of(listed())", "sosw: expected a dict of settings, got 'a list of 1'"),
        ("settings_of(both())", "app.conf.sosw: expected nothing, or what `install(app, config)` was given, got"),
    ],
)
def test_what_cannot_be_installed_is_refused_at_once_in_one_line(tmp_path: Path, call: str, said: str) -> None:
    """With what was expected and where, and without what may be a password."""
    program = f"""
from celery import Celery
from sosw_celery import install
from sosw_celery.errors import ConfigError
from sosw_celery.wiring.container import settings_of
SECRET = {{"redis_url": "redis://:s3cret@h:6379/0"}}
def both():
    app = install(Celery("two", set_as_current=False), {{"lease_s": 9}})
    app.conf.sosw = SECRET
    return app
def listed():
    app = install(Celery("three", set_as_current=False))
    app.conf.sosw = [*SECRET.items()]
    return app
try:
    {call}
except ConfigError as problem:
    print(problem)
"""
    shown = run(tmp_path, program).stdout
    assert shown.startswith(said)
    assert shown.count("\n") == 1
    assert "s3cret" not in shown
