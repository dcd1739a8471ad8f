"""Addresses of engines other than AWS's own."""

from __future__ import annotations

import pytest

from sosw_celery.core.http_address import http_address


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000", "https://dynamodb.local", "http://[::1]:8000/", "http://db"])
def test_an_address_stays_as_it_is(text: str) -> None:
    """What boto3 takes is taken."""
    assert http_address(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8000",
        "127.0.0.1",
        "http://",
        "http://:8000",
        "ftp://host",
        "http://h:x",
        "http://h:0",
        " http://h",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    """It says what is expected before anything connects."""
    with pytest.raises(ValueError, match=r"^an address with its scheme, as http://127\.0\.0\.1:8000$"):
        http_address(text)
