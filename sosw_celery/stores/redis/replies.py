"""What Redis answers, whichever way its client reads texts."""

from __future__ import annotations

__all__ = ["decoded"]


def decoded(value: str | bytes) -> str:
    """Return a text of an answer; a client that was made with `decode_responses` has it as one already."""
    return value.decode() if isinstance(value, bytes) else value
