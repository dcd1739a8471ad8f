"""The group of commands: cheap to import, helpful when mistyped, with examples that can be typed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sosw_celery.cli import COMMANDS, Command, sosw
from sosw_celery.system.exits import ExitCode

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"

#: What a command line in an example may stand behind or before.
AROUND = re.compile(r"^(?:\w+=\S+ )*|\s*(?:\||&&|>|#).*$")


def command_of(name: str) -> Command:
    """Return a command of the group, its module imported."""
    command = sosw.get_command(click.Context(sosw), name)
    assert isinstance(command, Command)
    return command


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    """Every `celery` command imports this module, so it brings nothing heavy and no configuration along."""
    heavy = ("boto3", "redis", "rich", "celery", "pydantic", "celeryconfig")
    code = f"import sys, sosw_celery.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_lists_every_command_without_importing_any() -> None:
    """`sosw-celery --help` answers at once, also where a command could not be imported."""
    code = (
        "import sys; from click.testing import CliRunner; from sosw_celery.cli import sosw; "
        "print(CliRunner().invoke(sosw, ['--help']).output); "
        "print([name for name in sys.modules if name.startswith('sosw_celery.cli.') and not name.endswith('exits')])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {name} " in output for name in COMMANDS)
    assert output.splitlines()[-1] == "[]"


def test_celerys_help_loads_our_commands_and_nothing_behind_them() -> None:
    """`celery --help` of any project is as quick as without us: no client, no service, not even the configuration."""
    code = (
        "import contextlib, sys; from celery.__main__ import main; sys.argv = ['celery', '--help']\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "ours = {name for name in sys.modules if name.startswith('sosw_celery')}\n"
        "print(sorted(ours | {'boto3', 'botocore', 'pydantic', 'redis', 'rich'} & sys.modules.keys()))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "\n  sosw " in output
    ground = ("clock", "delays", "errors", "system", "system.exits", "text")
    wanted = ["sosw_celery", "sosw_celery.cli", "sosw_celery.cli.exits", *(f"sosw_celery.{name}" for name in ground)]
    assert output.splitlines()[-1] == str(sorted(wanted))


def test_a_broken_configuration_does_not_break_help(tmp_path: Path) -> None:
    """Neither `celery --help` nor the help of our commands reads the configuration."""
    (tmp_path / "celeryconfig.py").write_text("raise RuntimeError('broken on purpose')")
    for arguments in (["-m", "celery", "--help"], ["-m", "celery", "sosw", "status", "--help"]):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "sosw" in done.stdout
        assert "broken on purpose" not in done.stdout + done.stderr


def test_a_mistyped_command_gets_a_suggestion() -> None:
    """The message names the command that was meant, and the exit code is that of a wrong command line."""
    result = CliRunner().invoke(sosw, ["shedule"])
    assert result.exit_code == ExitCode.USAGE
    assert "no command 'shedule', did you mean 'schedule'?" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_each_commands_help_ends_with_examples(name: str) -> None:
    """Whoever asks for help sees command lines to copy, whole and unwrapped."""
    result = CliRunner().invoke(sosw, [name, "--help"])
    examples = command_of(name).examples
    assert examples
    assert result.output.endswith("Examples:\n" + "".join(f"  {example}\n" for example in examples))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_parsed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option of an example exists and takes the value it is given."""
    monkeypatch.chdir(tmp_path)
    Path("job.json").write_text("{}")
    text = "\n".join(command_of(name).examples).replace(" \\\n    ", " ")
    text = text.replace("sosw-celery -A proj ", "sosw-celery ")  # of the group, not of the command
    lines = [part.strip() for line in text.splitlines() for part in re.split(r"\||&&", line)]
    own = [AROUND.sub("", line) for line in lines if f"sosw-celery {name}" in line]
    assert own
    for line in own:
        words = shlex.split(line)
        assert words[:2] == ["sosw-celery", name]
        command_of(name).make_context(name, words[2:])


def test_the_docs_list_every_command_and_every_exit_code() -> None:
    """docs/cli.md and the code say the same."""
    docs = DOCS.read_text()
    assert all(f"`{name}" in docs for name in COMMANDS)
    assert all(f"| {code.value} | {code.meaning} |" in docs for code in ExitCode)
