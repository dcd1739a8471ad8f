"""What a configuration of sosw means here: nothing that has a meaning is lost, nothing is guessed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sosw_celery.config.settings import Reading, Settings, load_settings, read_settings
from sosw_celery.errors import ConfigError

ARN = "arn:aws:lambda:us-west-2:000000000000:function:resize"

TABLE: dict[str, Any] = {
    "row_mapper": {
        "task_id": "S",
        "labourer_id": "S",
        "greenfield": "N",
        "attempts": "N",
        "closed_at": "N",
        "completed_at": "N",
        "desired_launch_time": "N",
        "arn": "S",
        "payload": "S",
    },
    "required_fields": ["task_id", "labourer_id", "created_at", "greenfield"],
    "table_name": "my_tasks",
    "index_greenfield": "my_greenfield",
    "field_names": {"task_id": "task_id", "labourer_id": "labourer_id", "greenfield": "greenfield"},
}
TASKS: dict[str, Any] = {
    "init_clients": ["DynamoDb", "lambda", "Ecology"],
    "dynamo_db_config": TABLE,
    "sosw_closed_tasks_table": "my_closed",
    "sosw_closed_tasks_labourer_status_index": "my_status",
    "sosw_retry_tasks_table": "my_retry",
    "sosw_retry_tasks_greenfield_index": "my_due",
    "greenfield_invocation_delta": 31557600,
    "greenfield_task_step": 1000,
    "ecology_config": {},
    "labourers": {"resize": {"arn": ARN, "max_simultaneous_invocations": 10}, "count": {"arn": ARN}},
    "max_attempts": 4,
    "max_attempts_resize": 7,
    "max_closed_to_analyse_for_duration": 10,
    "max_simultaneous_invocations": 3,
}
SCHEDULER: dict[str, Any] = {
    "init_clients": ["Task", "s3", "Sns", "Siblings"],
    "task_config": TASKS,
    "s3_prefix": "my/prefix",
    "queue_file": "my_queue.txt",
    "queue_bucket": "some-bucket",
    "shutdown_period": 60,
    "rows_to_process": 50,
    "job_schema": {},
    "job_schema_variants": {"default": {"chunkable_attrs": [("section", {}), ("store", {})]}},
    "task_operational_overhead_for_ddb": 0.03,
    "siblings_config": {"auto_spawning": True},
}


def read(section: Any) -> Reading:
    """Return what is read, having made sure that it was left as it is."""
    before = copy.deepcopy(section)
    reading = read_settings(section)
    assert section == before
    return reading


def settings_of(section: Any) -> Settings:
    """Return the settings of a section that is accepted."""
    reading = read(section)
    assert reading.problems == ()
    assert reading.settings is not None
    return reading.settings


def ignored(section: Any) -> dict[str, str]:
    """Return the keys that have no effect, with the reasons."""
    return {one.key: one.reason for one in read(section).ignored}


@pytest.mark.parametrize("section", [TASKS, {"task_config": TASKS}, SCHEDULER], ids=["bare", "in place", "scheduler"])
def test_a_pasted_task_config_counts_wherever_it_stands(section: dict[str, Any]) -> None:
    """As TASK_CLIENT_CONFIG for itself, as `task_config`, and in the whole configuration of a Scheduler."""
    settings = settings_of(section)
    config = settings.task_config
    assert config.dynamo_db_config.table_name == "my_tasks"
    assert config.dynamo_db_config.index_greenfield == "my_greenfield"
    assert (config.sosw_closed_tasks_table, config.sosw_closed_tasks_labourer_status_index) == (
        "my_closed",
        "my_status",
    )
    assert (config.sosw_retry_tasks_table, config.sosw_retry_tasks_greenfield_index) == ("my_retry", "my_due")
    assert config.greenfield_invocation_delta == 31557600
    resize, count = settings.labourer("resize"), settings.labourer("count")
    assert (resize.slots, resize.retry_policy.max_attempts) == (10, 7)
    assert (count.slots, count.retry_policy.max_attempts) == (3, 4)
    assert settings.labourer("not configured").slots == 3
    assert settings.labourers["resize"].arn == ARN


@pytest.mark.parametrize("section", [TABLE, {"dynamo_db_config": TABLE, "init_clients": ["DynamoDb"]}])
def test_a_pasted_table_is_that_of_tasks(section: dict[str, Any]) -> None:
    """TASKS_TABLE_CONFIG for itself, and the WorkerAssistant's configuration, which has it at its top level."""
    table = settings_of(section).task_config.dynamo_db_config
    assert (table.table_name, table.index_greenfield) == ("my_tasks", "my_greenfield")


def test_a_table_at_both_places_is_one() -> None:
    """The Scheduler's example names the table beside `task_config`; where both speak of it they have to agree."""
    beside = {"dynamo_db_config": {"table_name": "my_tasks"}, "task_config": {"dynamo_db_config": TABLE}}
    assert settings_of(beside).task_config.dynamo_db_config.index_greenfield == "my_greenfield"
    with pytest.raises(ConfigError, match="'my_tasks', as another place says, got 'other'"):
        load_settings({**beside, "dynamo_db_config": {"table_name": "other"}})


def test_a_labourers_own_table_is_not_taken_for_that_of_tasks() -> None:
    """The configuration of a worker's class, pasted into the section by mistake, says where it belongs."""
    own = {"dynamo_db_config": {"table_name": "autotest_dynamo_db", "row_mapper": {"hash_col": "S"}}}
    with pytest.raises(ConfigError, match="belongs in the DEFAULT_CONFIG of its class"):
        load_settings(own)


def test_keys_without_a_meaning_are_ignored_with_a_reason() -> None:
    """They are told, each with its path; nothing else is."""
    assert ignored(SCHEDULER).keys() == {
        "sosw.init_clients",
        "sosw.siblings_config",
        "sosw.task_operational_overhead_for_ddb",
        "sosw.task_config.init_clients",
        "sosw.task_config.greenfield_task_step",
        *({"sosw.task_config.ecology_config"} if "ecology_config" not in Settings.model_fields else set()),
    }
    assert all(ignored(SCHEDULER).values())
    others = {
        "retry_tasks_limit": 20,
        "default_simultaneous_invocations": 2,
        "sosw_worker_assistant_lambda": "a",
        "lambda_config": {},
        "project_dynamo_db_config": {},
        "task_config": {
            "dynamo_db_config": {"skip_glue": True, "dont_json_loads_results": True, "hash_key": "task_id"}
        },
        "labourers": {"resize": {"average_duration": 3, "health": 4}},
    }
    assert len(ignored(others)) == 10


def test_ignored_keys_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever wonders where a setting has gone finds it there."""
    with caplog.at_level("INFO"):
        load_settings({"init_clients": ["Task"]})
    assert "sosw.init_clients has no effect: clients are made when they are first used" in caplog.text


def test_a_region_of_the_table_is_that_of_the_section() -> None:
    """sosw's client takes its region from `dynamo_db_config`."""
    assert settings_of({"task_config": {"dynamo_db_config": {"region_name": "eu-west-1"}}}).aws_region == "eu-west-1"


def test_listed_period_patterns_name_methods() -> None:
    """sosw lists patterns and finds the method in the text of one; a dict is ours."""
    patterns = settings_of({"custom_period_patterns": ["last_[0-9]+_quarters", "this_year"]}).custom_period_patterns
    assert patterns == {"last_[0-9]+_quarters": "last_x_quarters", "this_year": "this_year"}
    assert settings_of({"custom_period_patterns": {"a": "b"}}).custom_period_patterns == {"a": "b"}


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        ({"task_config": {"max_attempts_resise": 3, "labourers": {"resize": {}}}}, "max_attempts_resise", "'resize'"),
        ({"init_cliets": []}, "sosw.init_cliets", "'init_clients'"),
        ({"task_config": {"greenfeld_task_step": 1}}, "task_config.greenfeld_task_step", "'greenfield_task_step'"),
        ({"sosw_closed_task_table": "abc"}, "sosw.sosw_closed_task_table", "known key"),
        ({"sosw_closed_tasks_table": "c"}, "sosw.sosw_closed_tasks_table", "at least 3"),
        ({"task_config": {"max_attempts": 0}}, "sosw.task_config.max_attempts", "greater"),
        ({"task_config": {"max_attempts_resize": 0, "labourers": {"resize": {}}}}, "max_attempts_resize", "greater"),
        ({"max_attempts": 3, "task_config": {"max_attempts": 4}}, "sosw.max_attempts", "3, as another place says"),
        ({"row_mapper": {"task_id": "N"}}, "sosw.row_mapper.task_id", "'S', the type that this field has"),
        ({"row_mapper": {"task_id": "S", "own": "X"}}, "sosw.row_mapper.own", "a type of DynamoDB"),
        ({"required_fields": ["customer"]}, "sosw.required_fields", "fields that new rows have"),
        ({"required_fields": ["arn"], "labourers": {"r": {}}}, "sosw.labourers.r.arn", "an arn"),
        ({"field_names": {"task_id": "id", "job_id": "id"}}, "sosw.field_names", "id stands there twice"),
        ({"custom_period_patterns": [3]}, "sosw.custom_period_patterns", "dictionary"),
        ({"task_config": 3}, "sosw.task_config", "dictionary"),
        ({"labourers": {"r": 3}}, "sosw.labourers.r", "dictionary"),
    ],
)
def test_what_is_wrong_is_named_where_it_was_written(section: Any, key: str, expected: str) -> None:
    """Also for a key that counts elsewhere here."""
    (problem,) = read(section).problems
    assert key in problem.key
    assert expected in problem.expected


def test_all_problems_are_told_at_once() -> None:
    """Whoever pastes a configuration does not have to repair it error by error."""
    section = {"rows_to_proces": 1, "rows_per_file": 0, "row_mapper": {"task_id": "S"}, "labourers": {"r": {"x": 1}}}
    assert [problem.key for problem in read(section).problems] == [
        "sosw.labourers.r.x",
        "sosw.rows_per_file",
        "sosw.rows_to_proces",
    ]


def test_no_password_is_told() -> None:
    """Not even that of a misspelled key, nor through the error that ends a process."""
    (problem,) = read({"redis_urll": "redis://:hush@host"}).problems
    assert "hush" not in str(problem)
    assert "redis://:***@host" in str(problem)


def test_a_labourers_own_attempts_hold() -> None:
    """As in sosw, where its entry is read last."""
    section = {"task_config": {"max_attempts_r": 9, "labourers": {"r": {"max_attempts": 2}}}}
    assert settings_of(section).labourer("r").retry_policy.max_attempts == 2
    assert ignored(section) == {"sosw.task_config.max_attempts_r": "the labourer's own max_attempts holds"}


def test_required_fields_may_be_named_as_the_tables_have_them() -> None:
    """sosw speaks of fields by their names in the tables."""
    section = {"field_names": {"task_id": "id"}, "required_fields": ["id", "greenfield"], "row_mapper": {"id": "S"}}
    assert settings_of(section).task_config.dynamo_db_config.required_fields == ("id", "greenfield")
