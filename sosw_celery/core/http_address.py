"""The address of a service that speaks HTTP, as boto3 takes it for an engine other than AWS's own."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["http_address"]

EXPECTED = "an address with its scheme, as http://127.0.0.1:8000"


def http_address(text: str) -> str:
    """Return the address as it is.

    Raises:
        ValueError: It is none; says what is expected.
    """
    try:
        url = urlsplit(text)
        is_one = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and text == text.strip()
    except ValueError:  # a port that is no number
        is_one = False
    if not is_one:
        raise ValueError(EXPECTED)
    return text
