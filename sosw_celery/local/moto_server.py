"""Runs moto's server as a stand-in for a DynamoDB engine, with two corrections.

moto 5.2 answers an INSERT of PartiQL that has parameters with an internal error, from which nobody can tell that it
will never take one; and it lets another request in between the check of a condition and the write. Here it refuses such
statements, as engines without PartiQL do, and answers one request after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.models import DynamoDBBackend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import main

__all__ = ["refuse_inserts"]


def refuse_inserts() -> None:
    """Have moto refuse each INSERT, in this process and from now on."""
    execute = DynamoDBBackend.batch_execute_statement

    def refusing(self: DynamoDBBackend, statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(statement["Statement"].startswith("INSERT") for statement in statements):
            raise MockValidationException("moto reads no parameters in an INSERT")
        return execute(self, statements)

    DynamoDBBackend.batch_execute_statement = refusing  # type: ignore[method-assign]


def answer_in_turn() -> None:
    """Have moto's server answer one request after the other, as AWS does for each key."""
    answer, turn = DomainDispatcherApplication.__call__, threading.Lock()

    def in_turn(self: DomainDispatcherApplication, environ: Any, start_response: Any) -> Iterable[bytes]:
        with turn:
            return list(answer(self, environ, start_response))

    DomainDispatcherApplication.__call__ = in_turn  # type: ignore[method-assign]


if __name__ == "__main__":
    refuse_inserts()
    answer_in_turn()
    main()
