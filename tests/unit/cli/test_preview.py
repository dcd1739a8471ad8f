"""`preview`: what a job would become, without any server."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sosw_celery.cli import sosw
from sosw_celery.config.settings import Settings, load_settings
from sosw_celery.core.chunking import MAX_PAYLOAD_BYTES, chunk_job
from sosw_celery.errors import InvalidJob
from sosw_celery.services.preview import preview_of
from sosw_celery.system.exits import ExitCode

JOB: dict[str, Any] = {
    "lambda_name": "count_words",
    "isolate_sources": True,
    "sources": {
        "json": {"isolate_documents": True, "documents": ["decoder", "encoder"]},
        "email": {"documents": ["mime"]},
    },
}


@pytest.fixture
def settings() -> Settings:
    """One labourer, two levels, parts of two rows."""
    return load_settings(
        {
            "labourers": {"count_words": {}},
            "job_schema": {"chunkable_attrs": ["source", "document"]},
            "rows_per_file": 2,
        }
    )


def preview(job: Any, *options: str) -> Result:
    """Run the command with the job on standard input."""
    text = job if isinstance(job, str) else json.dumps(job)
    return CliRunner().invoke(sosw, ["preview", "-", *options], input=text)


def test_a_preview_counts_what_chunking_gives(settings: Settings) -> None:
    """Tasks, their sizes and the first of them are those of `chunk_job`."""
    found = preview_of(JOB, settings, sample=2)
    texts = [json.dumps(payload) for payload in chunk_job(JOB, ["source", "document"], datetime.date(2026, 2, 1))]
    sizes = [len(text) for text in texts]
    assert (found.tasks, found.smallest, found.largest, found.total) == (3, min(sizes), max(sizes), sum(sizes))
    assert found.sample == texts[:2]


def test_jsonl_prints_every_payload_on_a_line() -> None:
    """What is printed can be read line by line, and nothing else is on stdout."""
    result = preview(JOB, "--format", "jsonl")
    assert result.exit_code == ExitCode.OK
    expected = list(chunk_job(JOB, ["source", "document"], datetime.date(2026, 2, 1)))
    assert [json.loads(line) for line in result.stdout.splitlines()] == expected


@pytest.mark.parametrize("options", [("--json",), ("--format", "json")])
def test_json_is_for_programs(options: tuple[str, ...]) -> None:
    """Counts, sizes, parts, sample and warnings, as one JSON object."""
    result = preview(JOB, *options, "--sample", "1")
    found = json.loads(result.stdout)
    assert (found["labourer_id"], found["tasks"], found["parts"], len(found["sample"])) == ("count_words", 3, 1, 1)


def test_text_is_for_people(tmp_path: Path) -> None:
    """The same from a file, as labelled lines; the cap of the labourer is beside its name."""
    path = tmp_path / "job.json"
    path.write_text(json.dumps(JOB))
    lines = CliRunner().invoke(sosw, ["preview", str(path)]).stdout.splitlines()
    assert lines[:3] == ["labourer     count_words", "cap          3 at once", "tasks        3"]
    assert "the first 3 of 3:" in lines


def test_warnings_are_shown_and_keep_jsonl_clean() -> None:
    """What looks like a mistake is said: in the preview itself, beside a stream of payloads on stderr."""
    job = {**JOB, "isolate_shops": True}
    assert any("isolate_shops" in warning for warning in json.loads(preview(job, "--json").stdout)["warnings"])
    result = preview(job, "--format", "jsonl")
    assert result.stderr.startswith("warning: ")
    assert "isolate_shops" in result.stderr
    assert len(result.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("job", "line"),
    [
        ("{", "error: job: expected JSON"),
        ("[1]", "error: job: expected a job"),
        ({"sources": ["json"]}, "error: job.lambda_name: expected the name of a labourer"),
        ({**JOB, "lambda_name": "count_word"}, "did you mean 'count_words'?"),
        ({**JOB, "period": "last_blue_moon"}, "error: job.period"),
    ],
    ids=["no json", "no dict", "no labourer", "unknown labourer", "bad period"],
)
def test_a_wrong_job_is_one_line_with_its_path(job: Any, line: str) -> None:
    """Nothing but the line, and the code that says that the job is to blame."""
    result = preview(job)
    assert result.exit_code == ExitCode.INVALID_JOB
    assert line in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_a_task_that_is_too_big_is_found(settings: Settings) -> None:
    """DynamoDB's limit is checked here already, for every task."""
    with pytest.raises(InvalidJob, match="over the limit"):
        preview_of({**JOB, "note": "x" * MAX_PAYLOAD_BYTES}, settings)


def test_a_file_that_is_missing_is_a_wrong_command_line() -> None:
    """It is not the job that is wrong."""
    assert CliRunner().invoke(sosw, ["preview", "no-such-file.json"]).exit_code == ExitCode.USAGE
