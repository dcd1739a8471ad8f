"""The app's own defaults beside the configuration, and what it says in logs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sosw_celery import log_privacy
from sosw_celery.celery import DEFAULTS

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
    headers: dict[str, Any] = {"argsrepr": "secret", "kwargsrepr": "secret"}
    log_privacy._show_ids_only(body=((argument,), {"wake": "secret"}, {}), headers=headers)
    assert headers["argsrepr"] == f"({shown})"
    assert "secret" not in str(headers)


def test_what_a_handler_of_ones_own_gets_with_a_record_is_hidden_as_well() -> None:
    """A handler that writes a record's data as JSON shows no arguments and no results."""
    context = {"id": "1", "name": "resize", "args": "secret", "kwargs": "secret", "return_value": "secret"}
    record = logging.LogRecord("celery.app.trace", logging.INFO, "f", 1, "%(name)s: %(return_value)s", (context,), None)
    record.data = context
    assert log_privacy._hide_trace(record)
    assert record.getMessage() == "resize: (not shown)"
    assert "secret" not in str(record.data)
    assert context["args"] == "secret"  # others may need it
