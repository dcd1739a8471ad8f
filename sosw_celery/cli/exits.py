"""The one border at which an error of a command becomes a line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import click

from sosw_celery.system.exits import ExitCode, code_of, line_of

__all__ = ["ADDRESSES", "APP", "DEBUG", "one_exit"]

#: Key in click's `Context.meta` under which `--debug` is kept.
DEBUG = "sosw_celery.debug"
#: The same of the app that `-A` names.
APP = "sosw_celery.app"
#: Key in click's `Context.meta` of the addresses that a command asks: store -> address.
ADDRESSES = "sosw_celery.addresses"


@contextlib.contextmanager
def one_exit(ctx: click.Context) -> Iterator[None]:
    """Turn whatever leaves the block into one line on stderr and the exit code; with --debug the traceback as well.

    What click raises to end a command, and its messages about the command line, pass.
    """
    try:
        yield
    except (click.exceptions.Exit, click.Abort, click.UsageError):
        raise
    except BrokenPipeError:
        # Python would complain once more when it flushes what is left at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        ctx.exit(ExitCode.CLOSED_PIPE)
    except KeyboardInterrupt as interrupt:
        ctx.exit(code_of(interrupt))
    except Exception as error:  # noqa: BLE001  # the border: shown here, with its traceback on demand
        if ctx.meta.get(DEBUG):
            traceback.print_exc()
        click.echo(line_of(error, ctx.meta.get(ADDRESSES)), err=True)
        ctx.exit(code_of(error))
