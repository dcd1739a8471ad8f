"""A labourer that counts lines and words of text files, and finds the longest line.

Written as a class, as in sosw: `self.stats` adds up numbers, `self.result` keeps anything else; both are new for each
task. A job nests documents in their sources, here files in folders, so that chunking can cut it:

    {"lambda_name": "count_words", "isolate_sources": true, "sources": {"docs": {"documents": ["index.md", "cli.md"]}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sosw_celery import Worker

__all__ = ["CountWords"]


class CountWords(Worker):
    """Counts words."""

    name = "count_words"

    def __call__(self, event: Mapping[str, Any]) -> Any:
        """Count those of all files of the task."""
        longest = ""
        for folder in event["sources"]:
            for file in event["documents"]:
                text = Path(folder, file).read_text()
                self.stats["files"] += 1
                self.stats["lines"] += len(text.splitlines())
                self.stats["words"] += len(text.split())
                longest = max([longest, *text.splitlines()], key=len)
        self.result["longest_line"] = longest
        return super().__call__(event)
