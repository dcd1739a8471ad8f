"""The golden vectors of sosw 0.7.51, and how to play them against our functions.

A vector with a `quirk` depends on a surprise of sosw; what we do there is in `ours.json`. Every other vector
has to give the same result, in the same order.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from sosw_celery.core import chunking
from sosw_celery.core.jobs import periods

FOLDER = Path(__file__).parents[2] / "golden"

LABOURERS = frozenset(
    {
        "ad_stats",
        "book_pricer",
        "fare_watch",
        "painting_indexer",
        "price_collector",
        "score_keeper",
        "sensor_poller",
        "song_ranker",
        "stock_sync",
        "word_counter",
    }
)

#: For vectors whose result does not depend on the date.
SOME_DAY = date(2024, 5, 15)


def load(suite: str) -> dict[str, Any]:
    """Return the vectors of a suite by their ids."""
    return {vector["id"]: vector for vector in json.loads((FOLDER / f"{suite}.json").read_text("utf-8"))}


def load_ours() -> dict[str, Any]:
    """Return what we decided for each marked vector: `tasks`, `result`, or the path that is `refused`."""
    found: dict[str, Any] = json.loads((FOLDER / "ours.json").read_text("utf-8"))
    return found


def unmarked(suite: str) -> list[dict[str, Any]]:
    """Return the vectors of a suite that have to be matched exactly."""
    return [vector for vector in load(suite).values() if "quirk" not in vector]


def play(vector: dict[str, Any]) -> Any:
    """Return what our functions make of a vector of any of the suites."""
    if "call" not in vector:
        return play_job(vector)
    if vector["call"] in DIRECT:
        return DIRECT[vector["call"]](vector)
    if vector["call"] in HELPERS:
        return HELPERS[vector["call"]](*vector["args"], vector.get("chunkable_attrs", []))
    return play_dates(vector)


def play_job(vector: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that an event becomes, as the Scheduler makes them."""
    job = chunking.extract_job(vector["job"])
    chunking.check_labourer(job["lambda_name"], LABOURERS)
    attrs = chunking.choose_schema(job, vector["chunkable_attrs"], vector.get("job_schema_variants", {}))
    payloads = chunking.chunk_job(job, attrs, today_of(vector))
    return [{"labourer_id": job["lambda_name"], **payload} for payload in payloads]


def play_dates(vector: dict[str, Any]) -> list[str]:
    """Return the dates of a period's own function."""
    (pattern,) = vector["args"] or [vector["call"]]
    found: list[str] = getattr(periods, vector["call"])(pattern, today_of(vector))
    return found


def today_of(vector: dict[str, Any]) -> date:
    """Return the day on which a vector was recorded."""
    return date.fromisoformat(vector["today"]) if vector.get("today") else SOME_DAY


def construct(chunkable_attrs: list[str]) -> None:
    """Read a schema, as building a Scheduler does."""
    chunking.parse_levels(chunkable_attrs)


DIRECT = {
    "chunk_job": lambda vector: list(chunking.chunk_levels(vector["job"], vector["chunkable_attrs"], **vector["args"])),
    "chunk_dates": lambda vector: chunking.chunk_dates(vector["job"], today_of(vector), **vector["args"]),
    "construct_job_data": lambda vector: list(
        chunking.construct_job_data(vector["job"], vector["chunkable_attrs"], today_of(vector), **vector["args"])
    ),
}

HELPERS = {
    "needs_chunking": chunking.needs_chunking,
    "get_next_chunkable_attr": lambda attr, attrs: chunking.get_next_chunkable_attr(attr, chunking.parse_levels(attrs)),
    "get_index_from_list": lambda attr, data, attrs: chunking.get_index_from_list(attr, data),
    "validate_list_of_vals": lambda data, attrs: chunking.validate_list_of_vals(data),
    "extract_job_from_payload": lambda event, attrs: chunking.extract_job(event),
    "single_or_plural": lambda attr, attrs: sorted(chunking.single_or_plural(attr)),
    "plural": lambda attr, attrs: chunking.plural(attr),
    "construct": construct,
}
