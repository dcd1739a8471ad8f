"""How commands end, those of Celery's program as well: the exit codes, and the line that an error becomes.

`celery --help` imports it: it stays cheap.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Mapping

import click

from sosw_celery.errors import (
    ConfigError,
    InvalidJob,
    JobNotFound,
    StoreError,
    StoreUnavailable,
    TaskNotFound,
)

__all__ = ["CONFIGURED_WRONG", "CommandFailed", "ExitCode", "Terminated", "code_of", "line_of"]

#: DynamoDB's code for a table or an index that does not exist.
NO_TABLE = "ResourceNotFoundException"
#: How clients call it that nothing answers at an address.
NOBODY_THERE = frozenset({"ConnectionError", "EndpointConnectionError"})
#: What no waiting cures, because what was asked, where, or as whom is wrong: the code, and the cure.
CONFIGURED_WRONG = {
    NO_TABLE: "a table is missing there; make the tables with `sosw-celery init`, or set sosw.aws_region",
    "NoCredentialsError": "no AWS credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "half of the AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "CredentialRetrievalError": "the AWS credentials cannot be read",
    "ExpiredTokenException": "the AWS credentials have expired",
    "UnrecognizedClientException": "AWS does not know these credentials",
    "InvalidSignatureException": "AWS does not take these credentials",
    "AccessDeniedException": "these AWS credentials may not do that; see `sosw-celery iam`",
    "AccessDenied": "these AWS credentials may not do that; see `sosw-celery iam`",
    "AuthenticationError": "the password of sosw.redis_url is wrong or missing",
    "AuthorizationError": "the user of sosw.redis_url may not do that",
    "NoPermissionError": "the user of sosw.redis_url may not do that",
}


class ExitCode(enum.IntEnum):
    """What the exit status of every command means; `meaning` says it for people."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        """Make a code that knows its meaning."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    OK = 0, "done"
    FAILURE = 1, "failed, for a reason that has no code of its own"
    USAGE = 2, "the command line is wrong"
    NOT_FOUND = 3, "no such job or task"
    DEAD_TASKS = 4, "the job has ended, and some of its tasks are dead"
    UNAVAILABLE = 5, "a server does not answer; try again later"
    INVALID_JOB = 6, "the job cannot become tasks; nothing was written"
    CONFIG = 7, "the configuration is missing or wrong"
    TIMEOUT = 8, "--timeout passed before the job had ended; the job goes on"
    INTERRUPTED = 130, "ended by Ctrl-C"
    CLOSED_PIPE = 141, "whoever read the output has gone, as head does"
    TERMINATED = 143, "ended by SIGTERM"


class Terminated(KeyboardInterrupt):
    """This process was asked to end by SIGTERM."""


class CommandFailed(click.ClickException):
    """A command ends with a line of its own and a code; nothing is broken."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: BaseException) -> ExitCode:
    """Return the code with which a command ends because of this error."""
    if isinstance(error, CommandFailed):
        return error.code
    if isinstance(error, StoreError) and (error.code in CONFIGURED_WRONG or _is_unknown_host(error)):
        return ExitCode.CONFIG
    if _is_of_celerys_settings(error):
        return ExitCode.CONFIG
    codes = (
        (InvalidJob, ExitCode.INVALID_JOB),
        (ConfigError, ExitCode.CONFIG),
        ((JobNotFound, TaskNotFound), ExitCode.NOT_FOUND),
        (StoreUnavailable, ExitCode.UNAVAILABLE),
        (Terminated, ExitCode.TERMINATED),
        (KeyboardInterrupt, ExitCode.INTERRUPTED),
        (BrokenPipeError, ExitCode.CLOSED_PIPE),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), ExitCode.FAILURE)


def line_of(error: BaseException, addresses: Mapping[str, str] | None = None) -> str:
    """Return what the user reads about an error, on one line, with the cure where we know it.

    Parameters:
        addresses: Where the stores of this command are.
    """
    if isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, StoreError):
        address = (addresses or {}).get(error.store, "")
        where = f", asked at {address}" if address else ""
        text = f"{error}{where}{_cure(error)}"
    elif type(error).__module__.startswith("sosw_celery.") or _is_of_celerys_settings(error):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error} (the traceback is shown with --debug)"
    return f"error: {' '.join(text.split())}"


def _cure(error: StoreError) -> str:
    """Return what is to be done about an error of a store, behind a colon; empty where we do not know."""
    if error.code in CONFIGURED_WRONG:
        return f": {CONFIGURED_WRONG[error.code]}"
    if _is_unknown_host(error):
        return ": there is no host of this name; is the address, or sosw.aws_region, right?"
    if isinstance(error, StoreUnavailable) and error.code in NOBODY_THERE:
        return ": is it running? `sosw-celery up` starts the servers on this machine"
    return ""


def _is_of_celerys_settings(error: BaseException) -> bool:
    # By its name: this is imported for `celery --help` as well, and Celery's own exceptions take long to import.
    return (type(error).__module__, type(error).__name__) == ("celery.exceptions", "ImproperlyConfigured")


def _is_unknown_host(error: BaseException) -> bool:
    """Return whether it came to this error because a host's name is not known."""
    cause: BaseException | None = error
    while cause is not None:
        # urllib3 wraps what the resolver raised: of its own kinds only the text tells.
        if isinstance(cause, socket.gaierror) or type(cause).__name__ == "NameResolutionError":
            return True
        cause = cause.__cause__ or cause.__context__
    return False
