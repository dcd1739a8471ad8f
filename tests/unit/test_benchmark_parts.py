"""A part that a benchmark leaves out, to see what it pays, is left out; all others stay."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.parsers import ResponseParserFactory

from benchmarks.aws_drain import pair_of
from benchmarks.figures import main
from benchmarks.parts import CODE, PARTS, VARIABLE, settings_without, take_out
from sosw_celery.config.settings import load_settings
from sosw_celery.stores.dynamodb import client as dynamodb_client
from sosw_celery.stores.dynamodb.botocore_fixes.item_parser import ItemParserFactory

ROOT = Path(__file__).parents[2]

#: Tell whether a client has a part.
HAS: dict[str, Callable[[Any], bool]] = {
    "item_parser": lambda client: isinstance(client._endpoint._response_parser_factory, ItemParserFactory),
    "user_agent": lambda client: client.meta.config.user_agent.startswith("sosw-celery/"),
}


def parts_of_new_client() -> set[str]:
    """Return the parts that a client has that is made now."""
    client = dynamodb_client.connect(endpoint_url="http://127.0.0.1:1", region_name="eu-west-1")
    return {part for part, has in HAS.items() if has(client)}


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test takes out is there again after it."""
    for module, name, _ in CODE.values():
        monkeypatch.setattr(module, name, getattr(module, name))


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("part", CODE)
def test_one_part_is_taken_out_and_the_others_stay(part: str) -> None:
    """Clients that are made from then on do without this part, and have all others."""
    assert parts_of_new_client() == set(CODE)
    take_out([part])
    assert parts_of_new_client() == set(CODE) - {part}


def test_lines_are_switched_off_by_the_systems_own_setting() -> None:
    """The setting is one that the system knows; parts that are code come with none."""
    assert settings_without(["item_parser", "lines"]) == {"line_s": 0}
    assert load_settings(settings_without(PARTS)).line_s == 0


def test_a_process_of_the_system_does_without_what_its_environment_names() -> None:
    """Its configuration, which it reads before it makes a client, takes the parts out."""
    code = (
        "import benchmarks.configuration; from sosw_celery.stores.dynamodb.client import connect\n"
        "client = connect(endpoint_url='http://127.0.0.1:1', region_name='eu-west-1')\n"
        "print(type(client._endpoint._response_parser_factory).__name__)"
    )
    environment = {**os.environ, VARIABLE: "user_agent,item_parser", "BENCHMARK_SOSW": '{"redis_url": "redis://"}'}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == ResponseParserFactory.__name__


def test_a_benchmark_is_told_which_parts_to_do_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names stand behind `--without` with commas between; by default there are none, and an unknown one is refused."""
    told: list[dict[str, Any]] = []

    def measure(**options: Any) -> list[Any]:
        told.append(options)
        return []

    def run(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
        with pytest.raises(SystemExit) as ended:
            main("", measure, {"tasks": 9}, {"tasks": 1}, PARTS)
        return ended.value.code

    assert run("--quick") == 0
    assert run("--without", "item_parser,lines") == 0
    assert told == [{"tasks": 1, "without": ()}, {"tasks": 9, "without": ("item_parser", "lines")}]
    assert run("--without", "item_parsr") == 2
    assert "'item_parsr' is none of item_parser," in capsys.readouterr().err


@pytest.mark.parametrize(("ours_first", "order"), [(True, ["ours", "other"]), (False, ["other", "ours"])])
def test_either_side_may_be_the_first_of_a_pair(ours_first: bool, order: list[str]) -> None:
    """Whoever drains first, each result is kept as that of its side."""
    drained: list[str] = []

    def drain(side: str) -> Any:
        drained.append(side)
        return side

    pair = pair_of(lambda: drain("ours"), lambda: drain("other"), ours_first=ours_first)
    assert (pair.ours, pair.other) == ("ours", "other")
    assert drained == order
