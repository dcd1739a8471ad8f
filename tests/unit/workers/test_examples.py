"""The example labourers do what they say, called directly as in unit tests of a user's."""

from __future__ import annotations

import http.server
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from sosw_celery import RetryLater
from workers.count_words import CountWords
from workers.fetch_pages import fetch, fetch_pages


def test_words_are_counted(tmp_path: Path) -> None:
    """Over all files of a task; an empty one counts as a file."""
    (tmp_path / "a").write_text("one two\nthree\n")
    (tmp_path / "b").write_text("")
    labourer = CountWords()
    labourer({"sources": [str(tmp_path)], "documents": ["a", "b"]})
    assert {name: labourer.stats[name] for name in ("files", "lines", "words")} == {"files": 2, "lines": 2, "words": 3}
    assert labourer.result["longest_line"] == "one two"


class Site(http.server.BaseHTTPRequestHandler):
    """Answers a page with its name; `busy` and `gone` with these."""

    def do_GET(self) -> None:
        """Answer."""
        page = self.path.removeprefix("/")
        self.send_response({"busy": 429, "gone": 404}.get(page, 200))
        self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a site."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pages_are_fetched(site: str) -> None:
    """All of a task's, with their bytes."""
    assert fetch_pages({"sources": [site], "documents": ["one", "three"]}) == {"pages": 2, "bytes": 8}


def test_a_busy_site_is_asked_again_when_it_says(site: str) -> None:
    """And an address that is wrong fails the task."""
    with pytest.raises(RetryLater) as wanted:
        fetch(f"{site}/busy")
    assert wanted.value.delay_s == 7
    with pytest.raises(urllib.error.HTTPError):
        fetch(f"{site}/gone")
    with pytest.raises(ValueError, match="expected an address of HTTP, got 'file:///etc/passwd'"):
        fetch("file:///etc/passwd")
