"""How rows that go into a table together are kept from being refused together.

DynamoDB refuses a batch or a transaction as a whole for what is wrong with one of its rows, as often as it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sosw_celery.errors import ContentRefused

__all__ = ["in_halves"]

Row = TypeVar("Row")
Done = TypeVar("Done")


def in_halves(
    rows: Sequence[Row],
    write: Callable[[Sequence[Row]], Sequence[Done]],
    alone: Callable[[Row, ContentRefused], Sequence[Done]],
) -> list[Done]:
    """Write rows together; where they are refused for their content, halve them until the culprit stands alone.

    Parameters:
        write: Writes rows, and returns what is done then. A part of those that it refuses may be written: it is called
            with them again.
        alone: Deals with a row that is refused by itself, and returns what is done then.
    """
    try:
        return list(write(rows))
    except ContentRefused as refusal:
        if len(rows) == 1:
            return list(alone(rows[0], refusal))
    middle = len(rows) // 2
    return [*in_halves(rows[:middle], write, alone), *in_halves(rows[middle:], write, alone)]
