"""What commands print."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from sosw_celery.cli.output import duration, number, print_fields, print_json, print_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (60, "1:00"),
        (125.4, "2:05"),
        (3599.6, "1:00:00"),
        (7384, "2:03:04"),
    ],
)
def test_a_duration_reads_as_people_write_it(seconds: float | None, text: str) -> None:
    """Seconds below a minute, then minutes, then hours."""
    assert duration(seconds) == text


def test_a_count_that_stopped_says_so() -> None:
    """A queue that was not counted to its end shows a plus."""
    assert (number(9999), number(10_000, at_least=True)) == ("9,999", "10,000+")


def test_a_table_in_a_pipe_is_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal: headers over columns, numbers to the right, no box, no colour, no trailing spaces."""
    print_table(["labourer", "queued", "slots"], [("resize", 12345, "ready"), ("mail", 7, "missing")], title="now")
    assert capsys.readouterr().out.splitlines() == [
        "now",
        "labourer  queued  slots",
        "resize    12,345  ready",
        "mail           7  missing",
    ]


def test_a_table_of_no_rows_is_its_headers(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer is an answer."""
    print_table(["job", "state"], [])
    assert capsys.readouterr().out == "job  state\n"


def test_fields_leave_out_what_is_empty_and_indent_what_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    """Zero is shown, None is not; a text of two lines stays under its label."""
    print_fields({"job": "a", "error": "", "done": 0, "accepted": None, "payload": "{\n}"})
    assert capsys.readouterr().out == "job      a\ndone     0\npayload  {\n         }\n"


def test_json_keeps_exact_numbers_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """The tables' decimals become JSON numbers, whole ones without a fraction."""
    print_json({"whole": Decimal(3), "part": Decimal("1.5"), "names": {"b", "a"}, "text": "wörter"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"whole": 3, "part": 1.5, "names": ["a", "b"], "text": "wörter"}
    assert "wörter" in out
