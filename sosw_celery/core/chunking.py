"""Chunking: from one nested job to the payloads of its tasks.

A job is a tree. The job itself and the values of its levels are *nodes*: dicts with attributes, flags, and one key for
each level below that has values. Chunking opens a node when something in it asks to be split, and hands down what it
holds: a task has the attributes of all nodes that it comes from (the nearest wins), and for each split level the value
or values that it is for. What nobody asks to split stays as it is.

    {"isolate_stores": True, "sections": {"toys": {"floor": 2, "stores": ["north", "south"]}, "books": None}}

becomes

    {"isolate_stores": True, "sections": ["toys"], "floor": 2, "stores": ["north"]}
    {"isolate_stores": True, "sections": ["toys"], "floor": 2, "stores": ["south"]}
    {"isolate_stores": True, "sections": ["books"]}

The law behind every rule: no value of a job is lost or doubled; what is ambiguous is refused with its path. The whole
job is checked before its first task is made, and tasks are made one at a time, so memory does not grow with their
number. This module is what others call; the walk itself is in `tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from itertools import chain
from typing import Any

from sosw_celery.core.jobs.payload import MAX_DEPTH, MAX_PAYLOAD_BYTES, check_json, check_payload_size, payload_text
from sosw_celery.core.jobs.periods import DAY_FLAGS, DEFAULT_PERIODS, JobDates, Periods, has_dates, job_dates
from sosw_celery.core.jobs.schema import (
    Level,
    choose_schema,
    get_index_from_list,
    get_next_chunkable_attr,
    parse_levels,
    plural,
    single_or_plural,
)
from sosw_celery.core.jobs.submission import NAME_KEYS, check_labourer, extract_job, labourer_name_from
from sosw_celery.core.jobs.tree import Tree, is_plain
from sosw_celery.core.jobs.warnings import MAX_NOTES, Note
from sosw_celery.errors import InvalidJob
from sosw_celery.text import excerpt

__all__ = [
    "MAX_DEPTH",
    "MAX_NOTES",
    "MAX_PAYLOAD_BYTES",
    "Level",
    "check_is_job",
    "check_labourer",
    "check_payload_size",
    "choose_schema",
    "chunk_dates",
    "chunk_job",
    "chunk_levels",
    "construct_job_data",
    "extract_job",
    "get_index_from_list",
    "get_next_chunkable_attr",
    "labourer_name_from",
    "needs_chunking",
    "parse_levels",
    "payload_text",
    "plural",
    "single_or_plural",
    "validate_list_of_vals",
]

Payload = dict[str, Any]
Warn = Callable[[str], None]


def chunk_job(
    job: Mapping[str, Any],
    chunkable_attrs: Iterable[Any],
    today: date,
    *,
    periods: Periods = DEFAULT_PERIODS,
    warn: Warn | None = None,
) -> Iterator[Payload]:
    """Return the payloads of the tasks that a job becomes, one by one: day by day, then in the order of the job.

    Everything is checked before this returns: an invalid job gives an error and not one of its tasks. The job is not
    changed, and the same job gives the same payloads in the same order. Payloads share what is not split with the job
    and with each other, so do not change them in place. They are without `lambda_name` and `labourer_id`.

    Parameters:
        job: As `extract_job` returns it.
        chunkable_attrs: The levels of the schema, outermost first: anything that `parse_levels` reads.
        today: What periods count from; see `periods.job_today`.
        warn: Called with each warning, a line of text, before this returns: at most `MAX_NOTES` of them and a count
            of the others.

    Raises:
        InvalidJob: With the path in the job of what is wrong.
        ConfigError: The levels are wrong.
    """
    _check_job(job)
    levels = parse_levels(chunkable_attrs)
    attributes = {key: value for key, value in job.items() if key not in NAME_KEYS}
    tree = Tree(levels)
    tasks = _chunk_days(tree, job_dates(attributes, today, periods, day_flags=_day_flags(job, levels)))
    _check_names(job, tree)
    _report(tree, warn)
    return tasks


def construct_job_data(
    job: Mapping[str, Any],
    chunkable_attrs: Iterable[Any],
    today: date,
    skeleton: Mapping[str, Any] | None = None,
    *,
    periods: Periods = DEFAULT_PERIODS,
    warn: Warn | None = None,
) -> Iterator[Payload]:
    """Return the payloads that the dates and levels of a job give, with the skeleton laid over the job.

    Raises:
        InvalidJob: With the path in the job of what is wrong.
    """
    _check_job(job)
    levels = parse_levels(chunkable_attrs)
    dates = job_dates(job, today, periods, day_flags=_day_flags(job, levels))
    tree = Tree(levels)
    tasks = _chunk_days(tree, dates._replace(attributes={**dates.attributes, **(skeleton or {})}))
    _report(tree, warn)
    return tasks


def chunk_dates(
    job: Mapping[str, Any],
    today: date,
    skeleton: Mapping[str, Any] | None = None,
    *,
    periods: Periods = DEFAULT_PERIODS,
    chunkable_attrs: Iterable[Any] = (),
) -> list[Payload]:
    """Return the job with its dates resolved: once, or once for each day that `isolate_days` asks for.

    The skeleton is laid over the job. Levels matter only because one called `day` may own the flag.

    Raises:
        InvalidJob: It is no dict, or names bad dates, or names them twice.
    """
    check_is_job(job)
    dates = job_dates(job, today, periods, day_flags=_day_flags(job, parse_levels(chunkable_attrs)))
    return list(dates._replace(attributes={**dates.attributes, **(skeleton or {})}).payloads())


def chunk_levels(
    job: Mapping[str, Any],
    chunkable_attrs: Iterable[Any],
    skeleton: Mapping[str, Any] | None = None,
    attr: str | None = None,
    *,
    warn: Warn | None = None,
) -> Iterator[Payload]:
    """Return the payloads that the levels of a job give, from the level `attr` on; its dates are left alone.

    The skeleton is a node around the job: its flags count, and where the job is split the job's own attributes win. A
    job with nothing to split comes back as it is, with the skeleton laid over it.

    Raises:
        InvalidJob: With the path in the job of what is wrong.
        ValueError: `attr` is not a level.
    """
    _check_job(job)
    check_json(skeleton or {})
    tree = Tree(parse_levels(chunkable_attrs), attr, skeleton)
    tree.survey(job)
    _report(tree, warn)
    return tree.expand(job)


def needs_chunking(attr: str, data: Mapping[str, Any], chunkable_attrs: Iterable[Any]) -> bool:
    """Return True when this node is to be split at the level `attr`: by a flag for it, or by what is below.

    Raises:
        InvalidJob: With the path in the node of what is wrong.
        ValueError: `attr` is not a level.
    """
    _check_job(data)
    tree = Tree(parse_levels(chunkable_attrs), attr)
    tree.survey(data)
    return tree.is_split


def validate_list_of_vals(data: Any) -> list[Any]:
    """Return the plain values of a list, set or tuple, or of a dict whose values are all None.

    Raises:
        InvalidJob: It is something else, or holds anything that is not plain.
    """
    values = list(data) if isinstance(data, (set, frozenset)) else data
    if not isinstance(values, (list, tuple, dict)) or not is_plain(values):
        raise InvalidJob("values", "expected a list of texts and numbers, or a dict of null", excerpt(data))
    return list(values)


def check_is_job(job: Any) -> None:
    """Make sure that a job, or a node of one, is a dict.

    Raises:
        InvalidJob: It is something else.
    """
    if not isinstance(job, dict):
        raise InvalidJob("job", "expected a dict", excerpt(job))


def _check_job(job: Any) -> None:
    """Make sure that a job is a dict of what JSON can say."""
    check_is_job(job)
    check_json(job)


def _chunk_days(tree: Tree, dates: JobDates) -> Iterator[Payload]:
    """Survey a job once, and return the tasks of each of its days."""
    for flag in dates.idle_flags:
        tree.notes.add(Note.NO_DAYS, flag, None)
    tree.survey(dates.attributes)
    return chain.from_iterable(map(tree.expand, dates.payloads()))


def _day_flags(job: Mapping[str, Any], levels: Iterable[Level]) -> tuple[str, ...]:
    """Return the flags that ask for a task per day. A level called `day` owns them in a job without dates."""
    owned = any(flag in level.isolate_flags for level in levels for flag in DAY_FLAGS)
    return () if owned and not has_dates(job) else DAY_FLAGS


def _check_names(job: Mapping[str, Any], tree: Tree) -> None:
    """Refuse a job that names two labourers. One that is split goes to `lambda_name` with a warning, as in sosw."""
    if "labourer_id" not in job or job["labourer_id"] == job.get("lambda_name", job["labourer_id"]):
        return
    if not tree.is_split:
        problem = "expected the same labourer as in lambda_name, or only one of the two"
        raise InvalidJob("job.labourer_id", problem, excerpt(job["labourer_id"]))
    tree.notes.add(Note.OTHER_LABOURER, "labourer_id", None)


def _report(tree: Tree, warn: Warn | None) -> None:
    if warn:
        tree.notes.report(warn)
