"""`python -m sosw_celery.local fetch` has the local stack's server programs fetched before they are needed.

Exit status: 0 when all are here, 3 when a stand-in has to be used, 1 when one is missing.
"""

from __future__ import annotations

import sys

import click

from sosw_celery.local import engines

EXIT_MISSING = 1
EXIT_STAND_IN = 3


@click.group()
def main() -> None:
    """Look after the server programs of the local stack."""


@main.command()
def fetch() -> None:
    """Fetch the server programs that are not on this machine yet."""
    try:
        complete = engines.fetch(click.echo)
    except engines.EngineMissing as missing:
        click.echo(str(missing), err=True)
        sys.exit(EXIT_MISSING)
    if not complete:
        sys.exit(EXIT_STAND_IN)


if __name__ == "__main__":
    main()
