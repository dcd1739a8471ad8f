"""How commands end: one line on stderr, one code."""

from __future__ import annotations

import socket
import sys
import types
from collections.abc import Callable

import click
import pytest
from celery.exceptions import ImproperlyConfigured
from click.testing import CliRunner, Result

from sosw_celery.cli import COMMANDS, Command, sosw
from sosw_celery.errors import (
    ConfigError,
    InvalidJob,
    JobNotFound,
    SoswError,
    StoreError,
    StoreUnavailable,
    TaskNotFound,
)
from sosw_celery.system.exits import CommandFailed, ExitCode, Terminated, code_of, line_of

Fail = Callable[..., Result]

ENDS = [
    (InvalidJob("job.sections.weddings", "expected a dict", "7"), ExitCode.INVALID_JOB),
    (ConfigError("sosw.lease_s", 0, "at least 1"), ExitCode.CONFIG),
    (JobNotFound("nightly"), ExitCode.NOT_FOUND),
    (TaskNotFound("5a0d"), ExitCode.NOT_FOUND),
    (StoreUnavailable("redis", "look", "TimeoutError"), ExitCode.UNAVAILABLE),
    (StoreError("dynamodb", "Query", "ValidationException"), ExitCode.FAILURE),
    (ImproperlyConfigured("Cannot mix new and old setting keys"), ExitCode.CONFIG),
    (CommandFailed("2 of 9 tasks are dead", ExitCode.DEAD_TASKS), ExitCode.DEAD_TASKS),
    (SoswError("something else of ours"), ExitCode.FAILURE),
]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Run a command that raises what it is given."""

    def run(error: BaseException, *options: str, after: tuple[str, ...] = ()) -> Result:
        def body() -> None:
            raise error

        module = types.ModuleType("failing_command")
        module.fail = Command("fail", callback=body, examples=["sosw-celery fail"])  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "failing_command", module)
        monkeypatch.setitem(COMMANDS, "fail", ("failing_command", "Fail."))
        return CliRunner().invoke(sosw, [*options, "fail", *after])

    return run


@pytest.mark.parametrize(("error", "code"), ENDS, ids=[type(error).__name__ for error, _ in ENDS])
def test_an_error_is_one_line_and_a_code(fail: Fail, error: Exception, code: ExitCode) -> None:
    """What we raise on purpose reads as it is, behind `error:`, with nothing on stdout."""
    result = fail(error)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == f"error: {error}\n"


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("NoCredentialsError", "no AWS credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("ExpiredTokenException", "the AWS credentials have expired"),
        ("ResourceNotFoundException", "a table is missing there; make the tables with `sosw-celery init`"),
        ("AuthenticationError", "the password of sosw.redis_url is wrong or missing"),
    ],
)
def test_what_waiting_does_not_cure_is_an_error_of_the_configuration(fail: Fail, code: str, cure: str) -> None:
    """What was asked, what is wrong, and what to do; not "try again later"."""
    result = fail(StoreUnavailable("dynamodb", "GetItem", code))
    assert result.exit_code == ExitCode.CONFIG
    assert result.stderr.startswith(f"error: dynamodb: GetItem failed ({code}): {cure}")


def test_an_error_of_a_store_says_where_it_was_asked() -> None:
    """The address that the command used, without its password."""
    error = StoreUnavailable("redis", "look", "ConnectionError")
    assert line_of(error, {"redis": "redis://:***@cache:6379/0", "dynamodb": "https://d"}) == (
        "error: redis: look failed (ConnectionError), asked at redis://:***@cache:6379/0: is it running? "
        "`sosw-celery up` starts the servers on this machine"
    )


def test_a_host_that_nobody_knows_is_an_error_of_the_configuration() -> None:
    """A region or an address with a typo shows as a name that cannot be resolved."""
    error = StoreUnavailable("dynamodb", "GetItem", "EndpointConnectionError")
    error.__cause__ = OSError("urllib3's")
    error.__cause__.__context__ = socket.gaierror(-2, "Name or service not known")
    assert code_of(error) is ExitCode.CONFIG
    assert "there is no host of this name" in line_of(error)


def test_a_bug_is_one_line_that_says_how_to_see_more(fail: Fail) -> None:
    """An error that nobody meant to raise shows its type and no traceback."""
    result = fail(KeyError("colour"))
    assert result.exit_code == ExitCode.FAILURE
    assert result.stderr == "error: KeyError: 'colour' (the traceback is shown with --debug)\n"


@pytest.mark.parametrize(("before", "after"), [(("--debug",), ()), ((), ("--debug",))])
def test_debug_shows_the_traceback(fail: Fail, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """`--debug` works before and after the command's name, and changes no code."""
    result = fail(InvalidJob("job", "expected a dict"), *before, after=after)
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("error: job: expected a dict\n")
    assert result.exit_code == ExitCode.INVALID_JOB


def test_debug_can_come_from_the_environment(fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    """SOSW_DEBUG=1 is the same as --debug."""
    monkeypatch.setenv("SOSW_DEBUG", "1")
    assert "Traceback" in fail(KeyError("colour")).stderr


@pytest.mark.parametrize(
    ("interrupt", "code"), [(KeyboardInterrupt(), ExitCode.INTERRUPTED), (Terminated(), ExitCode.TERMINATED)]
)
def test_an_interrupt_is_silent(fail: Fail, interrupt: BaseException, code: ExitCode) -> None:
    """Whoever presses Ctrl-C knows that; the code tells programs."""
    result = fail(interrupt)
    assert (result.exit_code, result.stderr) == (code, "")


@pytest.mark.parametrize("command", ["job", "task"])
def test_an_empty_id_is_a_wrong_command_line(command: str) -> None:
    """A variable of the shell was not set: no store is asked."""
    result = CliRunner().invoke(sosw, [command, ""])
    assert result.exit_code == ExitCode.USAGE
    assert "expected an id, got ''" in result.output


def test_tables_come_in_one_shape() -> None:
    """Of two that are asked for none would be silently left out."""
    result = CliRunner().invoke(sosw, ["tables", "--cloudformation", "--terraform"])
    assert result.exit_code == ExitCode.USAGE
    assert "not both" in result.output


def test_an_error_of_many_lines_is_one_line(fail: Fail) -> None:
    """Vendors' errors with line breaks do not break the rule."""
    assert fail(StoreError("s3", "first\n  second")).stderr == "error: s3: first second failed\n"


def test_missing_tables_and_servers_come_with_their_cure() -> None:
    """A table that is missing names `init`, a server that is missing names `up`."""
    from sosw_celery.system.exits import line_of

    assert "sosw-celery init" in line_of(StoreError("dynamodb", "GetItem", "ResourceNotFoundException"))
    assert "sosw-celery up" in line_of(StoreUnavailable("redis", "look", "ConnectionError"))


def test_a_wrong_command_line_is_clicks_own(fail: Fail) -> None:
    """Usage errors keep click's form and code."""
    result = fail(click.UsageError("--timeout needs --wait"))
    assert result.exit_code == ExitCode.USAGE
    assert "Error: --timeout needs --wait" in result.stderr
