"""Configurations in files: those of sosw as its users have them, and ours."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from sosw_celery.sosw_compat.config_files import Report, UnreadableFile, check_file, check_section

#: As users of sosw have it beside their Lambdas: constants that are parts of each other, and classes.
LAMBDAS = """
import boto3_of_another_world
from sosw.scheduler import Scheduler
from common import SHARED

STAGE = os.environ.get("NO_SUCH_VARIABLE", "dev")
TABLE_CONFIG = {
    "table_name": f"{STAGE}_tasks",
    "index_greenfield": "sosw_tasks_greenfield",
    "row_mapper": {"task_id": "S", "greenfield": "N"},
    "field_names": {},
}
TASK_CLIENT_CONFIG = {
    "init_clients": ["DynamoDb"],
    "dynamo_db_config": TABLE_CONFIG,
    "labourers": {"resize": {"arn": "arn:aws:lambda:us-west-2:000000000000:function:resize"}},
    "max_attempts_resize": 2 + 5,
}
ECOLOGY_CLIENT_CONFIG = {"init_clients": ["cloudwatch"], "default_metric_values": {"Period": 60}}
META_HANDLER_CONFIG = {"dynamo_db_config": {"table_name": "dev_meta"}}

boto3_of_another_world.client("s3")


class MyScheduler(Scheduler):
    DEFAULT_CONFIG = {
        "init_clients": ["Task", "s3"],
        "task_config": TASK_CLIENT_CONFIG,
        "queue_bucket": f"{STAGE}-bucket",
        "rows_to_process": 50,
    }


class MyScavenger:
    DEFAULT_CONFIG = {"init_clients": ["Task", "Sns"], "retry_tasks_limit": 20, "rows_to_process": 50}


class Processor:
    DEFAULT_CONFIG = {
        "init_clients": ["dynamo_db"],
        "dynamo_db_config": {"row_mapper": {"hash_col": "S"}, "table_name": "mine"},
    }
"""


def written(directory: Path, name: str, content: Any) -> Path:
    """Return a file with this content."""
    path = directory / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def wrong(report: Report) -> list[str]:
    """Return what is wrong, as it is shown."""
    return [str(problem) for problem in report.wrong]


def test_a_module_of_lambdas_is_read_without_running_it(tmp_path: Path) -> None:
    """Its constants and classes become one section; what is a labourer's own stays with the labourer."""
    report = check_file(written(tmp_path, "app.py", LAMBDAS))
    assert wrong(report) == []
    assert report.settings is not None
    assert report.settings.task_config.dynamo_db_config.table_name == "dev_tasks"
    assert report.settings.queue_bucket == "dev-bucket"
    assert report.settings.labourer("resize").retry_policy.max_attempts == 7
    assert report.settings.ecology_config.default_metric_values == {"Period": 60}
    assert report.settings.meta_handler_config is not None
    assert report.settings.meta_handler_config.dynamo_db_config.table_name == "dev_meta"
    assert {one.key for one in report.ignored} == {
        "MyScheduler.DEFAULT_CONFIG.init_clients",
        "MyScheduler.DEFAULT_CONFIG.task_config.init_clients",
        "MyScavenger.DEFAULT_CONFIG.init_clients",
        "MyScavenger.DEFAULT_CONFIG.retry_tasks_limit",
        "ECOLOGY_CLIENT_CONFIG.init_clients",
        "Processor.DEFAULT_CONFIG",
    }


def test_what_is_understood_is_told_leaf_by_leaf(tmp_path: Path) -> None:
    """Each key with its value, and where it counts here."""
    report = check_file(written(tmp_path, "app.py", LAMBDAS))
    understood = {one.key: (one.value, one.counts_as, one.is_moved) for one in report.understood}
    root = "MyScheduler.DEFAULT_CONFIG"
    assert understood[f"{root}.rows_to_process"] == (50, "sosw.rows_to_process", False)
    assert understood[f"{root}.task_config.max_attempts_resize"] == (7, "sosw.labourers.resize.max_attempts", True)
    place = "sosw.task_config.dynamo_db_config.row_mapper"
    value = {"task_id": "S", "greenfield": "N"}
    assert understood[f"{root}.task_config.dynamo_db_config.row_mapper"] == (value, place, False)
    assert understood["ECOLOGY_CLIENT_CONFIG.default_metric_values"][1] == "sosw.ecology_config.default_metric_values"
    told = {one.key for one in report.ignored}
    assert not told & understood.keys()


def test_what_is_wrong_is_told_where_the_file_has_it(tmp_path: Path) -> None:
    """Unknown keys, values that cannot be used or read, and parts that differ: each with its own path."""
    source = """
A_CONFIG = {"task_config": {"max_atempts": 3}, "rows_to_process": 0, "queue_bucket": call()}
B_CONFIG = {"s3_prefix": "a", "task_config": {"max_attempts_resise": 3, "labourers": {"resize": {}}}}
C_CONFIG = {"s3_prefix": "b", "labourers": {"resize": {"duraton": 3}}}
"""
    report = check_file(written(tmp_path, "config.py", source))
    assert report.settings is None
    assert wrong(report) == [
        "A_CONFIG.queue_bucket: expected a value that can be read without running line 2, got 'call()'",
        "C_CONFIG.s3_prefix: expected 'a', as another place says, got 'b'",
        "B_CONFIG.task_config.max_attempts_resise: expected max_attempts_ and the name of a labourer of the "
        "configuration, did you mean 'resize'?, got 3",
        "C_CONFIG.labourers.resize.duraton: expected a known key (did you mean 'duration'?), got 3",
        "A_CONFIG.task_config.max_atempts: expected a known key (did you mean 'max_attempts'?), got 3",
        "A_CONFIG.rows_to_process: expected greater than or equal to 1, got 0",
    ]
    assert {one.key for one in report.understood} == {"B_CONFIG.s3_prefix", "B_CONFIG.task_config.labourers.resize"}


def test_stored_configurations_are_read_together(tmp_path: Path) -> None:
    """One JSON or YAML file with the entries of sosw's `config` table."""
    resize = {"arn": "arn:aws:lambda:us-west-2:000000000000:function:resize"}
    stored = {
        "sosw_essential_config": {"labourers": {"resize": {**resize, "max_simultaneous_invocations": 5}}},
        "sosw_orchestrator_config": {"task_config": {"max_attempts_resize": 7}},
        "sosw_scavenger_config": {"task_config": {"labourers": {"resize": resize}}},
        "sosw_scheduler_config": {
            "dynamo_db_config": {"table_name": "sosw_tasks"},
            "job_schema": {"chunkable_attrs": [["topic", {}], ["word", {}]]},
            "queue_bucket": "sosw-s3-000000000000",
            "task_config": {"labourers": {"resize": resize}},
        },
    }
    for name in ("all.json", "all.yaml"):
        report = check_file(written(tmp_path, name, stored))
        assert wrong(report) == []
        assert report.settings is not None
        labourer = report.settings.labourer("resize")
        assert (labourer.slots, labourer.retry_policy.max_attempts) == (5, 7)
        (attempts,) = [one for one in report.understood if "max_attempts" in one.key]
        assert attempts.key == "sosw_orchestrator_config.task_config.max_attempts_resize"
        assert attempts.counts_as == "sosw.labourers.resize.max_attempts"


@pytest.mark.parametrize("shape", [lambda section: section, lambda section: {"sosw": section}])
def test_a_file_may_be_a_section(tmp_path: Path, shape: Any) -> None:
    """As it stands in celeryconfig, or under its name."""
    section = {"task_config": {"max_attempts": 5}, "queue_bucket": "bucket"}
    report = check_file(written(tmp_path, "section.json", shape(section)))
    assert report.settings is not None
    assert report.settings.max_attempts == 5
    assert {one.key for one in report.understood} == {"sosw.task_config.max_attempts", "sosw.queue_bucket"}


@pytest.mark.parametrize("source", ["import beside\nsosw = {**beside.part}", "from beside import part as sosw"])
def test_a_module_of_ours_is_run_as_celery_runs_it(tmp_path: Path, source: str) -> None:
    """It may compute its section, and import what stands beside it."""
    written(tmp_path, "beside.py", "part = {'max_attempts': int('4')}")
    report = check_file(written(tmp_path, "celeryconfig.py", source))
    assert report.settings is not None
    assert report.settings.max_attempts == 4


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.py", "x = 1", "expected a dict named sosw, DEFAULT_CONFIG, or NAME_CONFIG, found none"),
        ("a.py", "x = (", "was never closed"),
        ("a.py", "sosw = 1 / 0", "ZeroDivisionError"),
        ("a.json", "{", "Expecting property name"),
        ("a.json", "[1]", "expected a dict of settings, got list"),
        ("a.yaml", "a: [", "while parsing"),
        ("a.toml", "", "expected a file of .py, .json, .yaml, .yml"),
    ],
)
def test_a_file_without_a_configuration_says_why(tmp_path: Path, name: str, content: str, reason: str) -> None:
    """The text names the file and the reason."""
    with pytest.raises(UnreadableFile, match=r"a\.") as caught:
        check_file(written(tmp_path, name, content))
    assert reason in str(caught.value)


def test_a_section_that_is_no_dict_is_wrong() -> None:
    """Also where there is nothing to read."""
    assert wrong(check_section(None)) == ["sosw: expected a dict of settings, got None"]


def test_names_of_configurations_that_are_sections_stay_sections(tmp_path: Path) -> None:
    """`task_config` is a key, not a configuration that is called so."""
    report = check_file(written(tmp_path, "a.json", {"task_config": {"labourers": {"resize": {}}}}))
    assert [one.key for one in report.understood] == ["sosw.task_config.labourers.resize"]


UPSTREAM = (
    "scheduler",
    "orchestrator",
    "scavenger",
    "worker_assistant",
    "worker",
    "managers/task",
    "managers/ecology",
    "managers/meta_handler",
    "components/siblings",
)


@pytest.mark.parametrize("module", UPSTREAM)
def test_every_default_configuration_of_sosw_is_read(module: str) -> None:
    """Nothing in sosw's own modules is unknown or wrong; every key is understood, or ignored with a reason."""
    spec = importlib.util.find_spec("sosw")
    assert spec is not None
    assert spec.origin is not None
    report = check_file(Path(spec.origin).parent / f"{module}.py")
    assert wrong(report) == []
    assert report.settings is not None
    assert report.understood or report.ignored
    assert all(one.reason for one in report.ignored)


def test_defaults_of_sosw_have_their_values_here() -> None:
    """What its TaskManager and its Scavenger fall back to counts under our names."""
    spec = importlib.util.find_spec("sosw")
    assert spec is not None
    assert spec.origin is not None
    settings = [check_file(Path(spec.origin).parent / f"{module}.py").settings for module in UPSTREAM]
    tasks = settings[UPSTREAM.index("managers/task")]
    assert tasks is not None
    assert (tasks.max_attempts, tasks.max_simultaneous_invocations) == (3, 1)
    assert tasks.task_config.dynamo_db_config.row_mapper["desired_launch_time"] == "N"
    scavenger = settings[UPSTREAM.index("scavenger")]
    assert scavenger is not None
    assert scavenger.sns_config.recipient == "arn:aws:sns:us-west-2:000000000000:sosw_info"
