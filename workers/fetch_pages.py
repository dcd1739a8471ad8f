"""A labourer that fetches pages of a site that refuses who asks too often.

Written as a function: what it returns is kept on the task's row. The site is asked by so many tasks at once as the
configuration says, over all workers; where it still says "not now", the task is tried again when it says.

    {"lambda_name": "fetch_pages", "isolate_documents": true, "sources": {"http://a.test": {"documents": ["a", "b"]}}}
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from sosw_celery import RetryLater, Worker, app

__all__ = ["fetch_pages"]

#: Answers that say "not now".
NOT_NOW = (429, 503)
TIMEOUT_S = 10
#: Seconds until a page is asked for again whose site does not say when.
LATER_S = 5


@app.task(base=Worker, name="fetch_pages")
def fetch_pages(event: Mapping[str, Any]) -> dict[str, int]:
    """Return how many pages were fetched, and their bytes."""
    sizes = [fetch(f"{site}/{page}") for site in event["sources"] for page in event["documents"]]
    return {"pages": len(sizes), "bytes": sum(sizes)}


def fetch(address: str) -> int:
    """Return the bytes of a page.

    Raises:
        RetryLater: Its site refuses now.
        HTTPError: It refuses for good: the task fails, and is tried again as its labourer's settings say.
    """
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"expected an address of HTTP, got {address!r}")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # nosec B310  # it is one of HTTP
            return len(answer.read())
    except urllib.error.HTTPError as refused:
        refused.close()
        if refused.code not in NOT_NOW:
            raise
        raise RetryLater(refused.headers.get("Retry-After", LATER_S), f"HTTP {refused.code}") from refused
