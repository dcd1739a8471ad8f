"""`config`, `tables` and `iam`: what they print, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sosw_celery.cli import sosw
from sosw_celery.cli.aws.policies import ROLES
from sosw_celery.stores.dynamodb.tables import Tables, definitions
from sosw_celery.system.exits import ExitCode

CONFIG = """
TASK_CLIENT_CONFIG = {
    "greenfield_task_step": 1000,
    "labourers": {"resize": {"max_simultaneous_invocations": 10}},
    "max_attempts_resize": 7,
}
SCHEDULER_CONFIG = {"task_config": TASK_CLIENT_CONFIG, "redis_url": "redis://:hush@host/0"}
"""


def run(*arguments: str) -> Result:
    """Run a command in this process, with the configuration of this checkout."""
    return CliRunner().invoke(sosw, list(arguments))


def run_in(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, where another configuration is."""
    code = "from sosw_celery.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of sosw in a file."""
    path = tmp_path / "app.py"
    path.write_text(CONFIG)
    return path


def test_check_tells_what_of_a_file_counts(config: Path) -> None:
    """Three groups, arrows to where a key counts, no password."""
    result = run("config", "check", str(config))
    assert result.exit_code == ExitCode.OK
    root = "SCHEDULER_CONFIG.task_config"
    assert result.stdout.splitlines() == [
        f"{config}: 3 understood, 1 ignored, 0 wrong",
        "",
        "understood",
        f"  {root}.labourers.resize.max_simultaneous_invocations = 10   "
        "-> sosw.labourers.resize.max_simultaneous_invocations",
        f"  {root}.max_attempts_resize = 7   -> sosw.labourers.resize.max_attempts",
        "  SCHEDULER_CONFIG.redis_url = 'redis://:***@host/0'",
        "",
        "ignored",
        f"  {root}.greenfield_task_step: a queue is ordered by the times at which its rows were written",
    ]


def test_check_ends_with_1_when_anything_is_wrong(config: Path) -> None:
    """All of it is told, with what is expected; the value is masked there too."""
    config.write_text(CONFIG.replace('"redis_url"', '"redis_urll"').replace("1000", "1000, 'max_attempts': 'x'"))
    result = run("config", "check", str(config))
    assert result.exit_code == ExitCode.FAILURE
    lines = result.stdout.splitlines()
    assert lines[lines.index("wrong") + 1 :] == [
        "  SCHEDULER_CONFIG.task_config.max_attempts: expected a valid integer, unable to parse string as an integer, "
        "got 'x'",
        "  SCHEDULER_CONFIG.redis_urll: expected a known key (did you mean 'redis_url'?), got 'redis://:***@host/0'",
    ]


def test_check_speaks_json(config: Path) -> None:
    """For programs: nothing but one object on stdout."""
    config.write_text(CONFIG.replace('"redis_url"', '"redis_urll"'))
    result = run("config", "check", str(config), "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], found["file"]) == (ExitCode.FAILURE, False, str(config))
    assert found["wrong"] == [
        {
            "key": "SCHEDULER_CONFIG.redis_urll",
            "value": "redis://:***@host/0",
            "expected": "a known key (did you mean 'redis_url'?)",
        }
    ]
    assert {"key", "value", "counts_as"} == found["understood"][0].keys()
    assert {"key", "value", "reason"} == found["ignored"][0].keys()


def test_check_without_a_file_checks_what_is_in_effect(tmp_path: Path) -> None:
    """All that is wrong with the celeryconfig of this directory, not only the first thing."""
    (tmp_path / "celeryconfig.py").write_text("sosw = {'rows_per_file': 0, 'init_clients': [], 'labourer': {}}")
    done = run_in(tmp_path, "config", "check", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["file"]) == (ExitCode.FAILURE, "celeryconfig")
    assert [one["key"] for one in found["wrong"]] == ["sosw.rows_per_file", "sosw.labourer"]
    assert [one["key"] for one in found["ignored"]] == ["sosw.init_clients"]
    (tmp_path / "celeryconfig.py").unlink()
    missing = run_in(tmp_path, "config", "check")
    assert missing.returncode == ExitCode.CONFIG
    assert "expected a module that is found from" in missing.stderr
    assert missing.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("stated", "said"),
    [("sosw = {'labourers': {'resize': {}}}", "code that it names"), ("SOSW = {}", "there is no section `sosw`")],
)
def test_check_says_what_it_does_not_try(tmp_path: Path, stated: str, said: str) -> None:
    """Nothing wrong is no word about modules that only a worker loads, or about a section that is not there."""
    (tmp_path / "celeryconfig.py").write_text(stated)
    done = run_in(tmp_path, "config", "check")
    assert done.returncode == ExitCode.OK
    assert said in done.stderr


def test_check_looks_at_each_scheduled_job(tmp_path: Path) -> None:
    """What would be refused when its time comes is wrong now, by the periods of the file's own directory too."""
    (tmp_path / "my_periods.py").write_text("def days(match, today):\n    return ['2026-01-01']\n")
    config = tmp_path / "celeryconfig.py"
    entries = {
        "fine": {"schedule": 60, "job": {"lambda_name": "resize", "period": "of_ours"}},
        "never": {"schedule": "0 0 30 2 *", "job": {"lambda_name": "resize"}},
        "typo": {"schedule": 60, "job": {"lambda_name": "resise"}},
    }
    section = {"labourers": {"resize": {}}, "custom_period_patterns": {"of_ours": "my_periods:days"}}
    config.write_text(f"sosw = {section | {'scheduled_jobs': entries}!r}")
    done = run_in(tmp_path.parent, "config", "check", str(config), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (ExitCode.FAILURE, False)
    keys = ["sosw.scheduled_jobs.never.schedule", "sosw.scheduled_jobs.typo.job"]
    assert [one["key"] for one in found["wrong"]] == keys
    understood = [one["counts_as"] for one in found["understood"]]
    assert "sosw.scheduled_jobs.fine.job" in understood
    assert not [key for key in understood if key.startswith("sosw.scheduled_jobs.typo.job")]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """And the exit code that something is wrong."""
    (tmp_path / "a.json").write_text("{")
    result = run("config", "check", str(tmp_path / "a.json"))
    assert result.exit_code == ExitCode.FAILURE
    assert result.stderr.startswith(f"error: {tmp_path / 'a.json'}: Expecting property name")
    assert run("config", "check", str(tmp_path / "none.py")).exit_code == ExitCode.USAGE


def test_show_prints_what_is_in_effect_without_secrets(tmp_path: Path) -> None:
    """Celery's settings that somebody states, the section with its defaults; passwords nowhere."""
    (tmp_path / "celeryconfig.py").write_text(
        "broker_url = 'redis://:hush@host/0'\n"
        "task_soft_time_limit = 9\n"
        "broker_transport_options = {'sentinel_kwargs': {'password': 'hush'}}\n"
        "redis_url = broker_url\n"
        "sosw = {'redis_url': broker_url, 'rows_to_process': 7}\n"
    )
    shown = json.loads(run_in(tmp_path, "config", "show", "--json").stdout)
    assert shown["celery"]["broker_url"] == shown["sosw"]["redis_url"] == "redis://:***@host/0"
    assert shown["celery"]["broker_transport_options"] == {"sentinel_kwargs": {"password": "***"}}
    assert (shown["celery"]["task_soft_time_limit"], shown["celery"]["task_acks_late"]) == (9, True)
    assert (shown["sosw"]["rows_to_process"], shown["sosw"]["task_config"]["sosw_jobs_table"]) == (7, "sosw_jobs")
    text = run_in(tmp_path, "config", "show")
    assert text.returncode == ExitCode.OK
    assert "hush" not in text.stdout + text.stderr
    lines = text.stdout.splitlines()
    assert "  broker_url = 'redis://:***@host/0'" in lines[: lines.index("sosw")]
    assert "  rows_to_process = 7" in lines[lines.index("sosw") :]


def test_show_refuses_a_wrong_configuration(tmp_path: Path) -> None:
    """Nothing is in effect then."""
    (tmp_path / "celeryconfig.py").write_text("sosw = {'rows_per_file': 0}")
    done = run_in(tmp_path, "config", "show")
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert "sosw.rows_per_file" in done.stderr


def test_tables_are_listed() -> None:
    """Tables and indexes with their keys; as JSON the arguments of CreateTable."""
    lines = run("tables").stdout.splitlines()
    assert lines[0].split() == ["table", "index", "keys"]
    assert "sosw_tasks         sosw_tasks_greenfield           labourer_id, greenfield" in lines
    assert json.loads(run("tables", "--json").stdout) == definitions(Tables())


@pytest.mark.parametrize(
    ("options", "is_on"), [((), True), (("--no-deletion-protection", "--no-point-in-time-recovery"), False)]
)
def test_tables_are_printed_as_code(options: tuple[str, ...], is_on: bool) -> None:
    """A template and a configuration, each as one JSON value; protections can be left off."""
    template = json.loads(run("tables", "--cloudformation", *options).stdout)
    resources: list[dict[str, Any]] = [one["Properties"] for one in template["Resources"].values()]
    assert [one["TableName"] for one in resources] == [one["TableName"] for one in definitions(Tables())]
    assert {one["DeletionProtectionEnabled"] for one in resources} == {is_on}
    assert {one["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] for one in resources} == {is_on}
    made = json.loads(run("tables", "--terraform", *options).stdout)["resource"]["aws_dynamodb_table"]
    assert {one["deletion_protection_enabled"] for one in made.values()} == {is_on}


def test_iam_prints_one_policy_or_all() -> None:
    """A role's is the document itself; all are found by their roles."""
    everyone = json.loads(run("iam").stdout)
    assert everyone.keys() == ROLES.keys()
    one = json.loads(run("iam", "worker", "--region", "eu-west-1", "--account", "123456789012").stdout)
    assert one["Version"] == "2012-10-17"
    assert all("eu-west-1:123456789012" in arn for statement in one["Statement"] for arn in statement["Resource"])
    assert one["Statement"][0]["Sid"] == everyone["worker"]["policy"]["Statement"][0]["Sid"]


def test_a_role_without_calls_needs_no_policy() -> None:
    """That is said beside the document, which stays JSON."""
    result = run("iam", "worker-through-assistant")
    assert json.loads(result.stdout)["Statement"] == []
    assert "no policy is needed" in result.stderr


def test_an_unknown_role_is_a_wrong_command_line() -> None:
    """The message names those that there are."""
    result = run("iam", "workr")
    assert result.exit_code == ExitCode.USAGE
    assert "scavenger" in result.stderr
