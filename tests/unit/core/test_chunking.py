"""What chunking promises besides its rules: errors with paths, bounded warnings, a stream, one text for a payload."""

from __future__ import annotations

import copy
import json
import time
import tracemalloc
from datetime import date
from enum import Enum
from typing import Any

import pytest

from sosw_celery.core.chunking import (
    MAX_DEPTH,
    MAX_NOTES,
    MAX_PAYLOAD_BYTES,
    Level,
    check_payload_size,
    chunk_dates,
    chunk_job,
    chunk_levels,
    construct_job_data,
    extract_job,
    get_index_from_list,
    needs_chunking,
    parse_levels,
    payload_text,
    plural,
    single_or_plural,
    validate_list_of_vals,
)
from sosw_celery.errors import ConfigError, InvalidJob

FRIDAY = date(2024, 3, 1)
THREE = ["section", "store", "product"]


def tasks(job: dict[str, Any], levels: list[Any] = THREE) -> list[dict[str, Any]]:
    """Return the tasks of a job."""
    return list(chunk_job(job, levels, FRIDAY))


def refusal(job: Any, levels: list[Any] = THREE) -> InvalidJob:
    """Return the error with which a job is refused."""
    with pytest.raises(InvalidJob) as raised:
        tasks(job, levels)
    return raised.value


def warnings(job: dict[str, Any], levels: list[Any] = THREE) -> list[str]:
    """Return the warnings about a job."""
    said: list[str] = []
    chunk_job(job, levels, FRIDAY, warn=said.append)
    return said


def wide(stores: int, products: int) -> dict[str, Any]:
    """Return a job of ten sections with so many stores each, and so many products in each store, all isolated."""
    store = {"products": [f"product-{number}" for number in range(products)]}
    sections = {f"section-{i}": {"stores": {f"store-{j}": dict(store) for j in range(stores)}} for i in range(10)}
    return {"isolate_products": True, "currency": "EUR", "sections": sections}


# ---- Errors


@pytest.mark.parametrize(
    ("stores", "flag", "path"),
    [
        ({"north": 5}, {}, "job.sections.toys.stores.north"),
        ({"north": None, "south": ["x"]}, {}, "job.sections.toys.stores.south"),
        (["north", None], {}, "job.sections.toys.stores"),
        (["north", ["x"]], {}, "job.sections.toys.stores"),
        ([{"north": None}, "south"], {}, "job.sections.toys.stores"),
        ([{"north": None}, {"south": 5}], {}, "job.sections.toys.stores.south"),
        ({"north": {"product": 1, "products": 2}}, {}, "job.sections.toys.stores.north.products"),
        ({"north": {"section": "x"}}, {}, "job.sections.toys.stores.north.section"),
        (["north"], {"max_stores_per_batch": "two"}, "job.sections.toys.max_stores_per_batch"),
        (["north"], {"isolate_products": "maybe"}, "job.sections.toys.isolate_products"),
    ],
)
def test_paths(stores: Any, flag: dict[str, Any], path: str) -> None:
    """An error says where in the job it is, and what was found there."""
    error = refusal({"isolate_stores": True, "sections": {"toys": {"stores": stores, **flag}}})
    assert error.path == path
    assert error.value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({1: "x"}, "job"),
        ({"a": {"b": {2: "x"}}}, "job.a.b"),
        ({"sections": {None: None}}, "job.sections"),
        ({"a": float("nan")}, "job.a"),
        ({"a": [1, {"b": float("inf")}]}, "job.a.1.b"),
        ({"isolate_sections": True, "sections": ["x", float("-inf")]}, "job.sections.1"),
        ({"a": {1, 2}}, "job.a"),
        ({"a": FRIDAY}, "job.a"),
        ({"a": [b"x"]}, "job.a.0"),
    ],
)
def test_what_json_cannot_say(value: Any, path: str) -> None:
    """Keys that are not text, NaN, Infinity and other types are refused, in jobs and in events, anywhere."""
    assert refusal(value).path == path
    with pytest.raises(InvalidJob) as raised:
        extract_job({"lambda_name": "w", **value})
    assert raised.value.path == path


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": [-Infinity]}', '{"a": 1e999}', '{"a": 1, "a": 2}', "{'a': 1}"])
@pytest.mark.parametrize("wrap", ["%s", '{"job": %s}'])
def test_text_that_is_no_json(text: str, wrap: str) -> None:
    """NaN, Infinity, numbers beyond them, keys given twice and broken texts are refused."""
    with pytest.raises(InvalidJob):
        extract_job(wrap % text.replace("{", '{"lambda_name": "w", ', 1))


@pytest.mark.parametrize("job", [None, [], "{}", 5])
def test_jobs_are_dicts(job: Any) -> None:
    """Chunking takes a dict and nothing else; reading events is the work of extract_job."""
    assert refusal(job).path == "job"


def test_double_key_inside() -> None:
    """JSON that names a key twice would lose a value, at any depth; the error says which key."""
    with pytest.raises(InvalidJob, match=r"each key once .*'words'"):
        extract_job('{"lambda_name": "w", "topics": {"t": {"words": ["a"], "words": ["b"]}}}')


def test_events_as_bytes() -> None:
    """JSON may come as bytes; ones that are not UTF-8 are refused."""
    assert extract_job('{"lambda_name": "w", "k": "Köln"}'.encode()) == {"lambda_name": "w", "k": "Köln"}
    with pytest.raises(InvalidJob):
        extract_job(b'{"lambda_name": "w", "k": "\xff"}')


def test_extracting_gives_a_new_dict() -> None:
    """The job of an event is a dict of its own, and the event is unchanged."""
    event = {"k": 1, "lambda_name": "arn:aws:lambda:eu-west-1:123456789012:function:w"}
    job = extract_job(event)
    job["k"] = 2
    assert event == {"k": 1, "lambda_name": "arn:aws:lambda:eu-west-1:123456789012:function:w"}


@pytest.mark.parametrize(
    "event", ["[" * 800 + "]" * 800, '{"a": ' * 300 + "1" + "}" * 300, [[[]]] * 10**6, {"a": 10**5000}]
)
def test_errors_show_the_beginning(event: Any) -> None:
    """An error shows the beginning of what was found, in one line, whatever its size or depth."""
    with pytest.raises(InvalidJob) as raised:
        extract_job(event)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def nested(depth: int) -> dict[str, Any]:
    """Return a dict in which so many dicts and lists, itself included, stand in each other."""
    inner: Any = "x"
    for step in range(depth - 1):
        inner = [inner] if step % 2 else {"a": inner}
    return {"lambda_name": "w", "a": inner}


def test_depth_of_jobs() -> None:
    """A job may be MAX_DEPTH deep; a deeper one is refused as dict and as text, however deep it is."""
    assert extract_job(json.dumps(nested(MAX_DEPTH)))
    assert payload_text(tasks(nested(MAX_DEPTH))[0])
    for depth in (MAX_DEPTH + 2, 900, 100_000):
        with pytest.raises(InvalidJob, match=f"at most {MAX_DEPTH} lists and dicts"):
            extract_job(nested(depth))
    for text in (json.dumps(nested(MAX_DEPTH + 2)), "[" * 100_000, '{"lambda_name": "w", "a": ' + '{"a":' * 100_000):
        with pytest.raises(InvalidJob):
            extract_job(text)


def test_cycles() -> None:
    """A dict that contains itself is refused like any that is too deep."""
    job: dict[str, Any] = {"lambda_name": "w"}
    job["again"] = job
    with pytest.raises(InvalidJob):
        extract_job(job)


def test_payload_that_is_no_json() -> None:
    """A payload that JSON cannot say is refused when it is written, whoever made it."""
    for payload in ({"a": float("nan")}, {"a": {1, 2}}, {"a": 10**5000}):
        with pytest.raises(InvalidJob):
            payload_text(payload)


# ---- Levels


def test_any_number_of_levels() -> None:
    """A schema may have thousands of levels, and a job may use as many of them as its depth allows."""
    levels = [f"level{number}" for number in range(5_000)]
    assert [task["level4999s"] for task in tasks({"isolate_level4999": True, "level4999": ["a", "b"]}, levels)] == [
        ["a"],
        ["b"],
    ]
    used = MAX_DEPTH // 2
    inner: Any = {f"level{used - 1}s": ["a", "b"]}
    for number in reversed(range(used - 1)):
        inner = {f"level{number}s": {"x": inner}}
    found = tasks({f"isolate_level{used - 1}s": True, **inner}, levels)
    assert [task[f"level{used - 1}s"] for task in found] == [["a"], ["b"]]
    assert all(task[f"level{number}s"] == ["x"] for task in found for number in range(used - 1))


@pytest.mark.parametrize(
    ("attrs", "key"),
    [
        ("section", ""),
        (5, ""),
        ({"section": {}}, ""),
        ([5], "[0]"),
        ([""], "[0]"),
        ([["a", {}, {}]], "[0]"),
        ([["a", "b"]], "[0]"),
        ([[]], "[0]"),
        (["a", ("b", {"plurals": "bb"})], "[1].plurals"),
        ([("a", {"plural": 5})], "[0].plural"),
        ([("a", {"plural": ""})], "[0].plural"),
        (["a", "a"], ""),
        (["a", ("b", {"plural": "as"})], ""),
        (["period"], ""),
        ([("x", {"plural": "labourer_id"})], ""),
        (["bus"], "[0]"),
    ],
)
def test_levels_that_cannot_be_read(attrs: Any, key: str) -> None:
    """A level of another shape, an empty or reserved name, and words that two levels share are refused with the key."""
    with pytest.raises(ConfigError) as error:
        parse_levels(attrs, "schema")
    assert error.value.key == f"schema{key}"


def test_levels_are_values() -> None:
    """Parsed levels are frozen, equal by their spellings, and may be parsed again."""
    levels = parse_levels(["section", ("city", {"plural": "cities"})])
    assert levels == (Level("section", "sections"), Level("city", "cities"))
    assert parse_levels(levels) == levels
    with pytest.raises(AttributeError):
        levels[0].name = "x"  # type: ignore[misc]


def test_spellings_follow_the_levels() -> None:
    """The helpers know a plural of one's own when they are given the levels."""
    levels = parse_levels([("city", {"plural": "cities"})])
    assert single_or_plural("cities", levels) == {"city", "cities"}
    assert plural("city", levels) == plural("cities", levels) == "cities"
    assert get_index_from_list("city", ["regions", "cities"], levels) == 1
    assert plural("shop", levels) == "shops"


def test_unknown_level() -> None:
    """To ask about a level that does not exist is a mistake of the caller, and gets a suggestion."""
    with pytest.raises(ValueError, match="no level 'stor', did you mean 'store'"):
        needs_chunking("stor", {}, THREE)


# ---- Warnings


def test_a_million_places_make_one_warning() -> None:
    """Warnings are counted by what they say and at which level: their number does not grow with the job."""
    stores = {f"store-{number}": {"floor": number, "isolate_planets": True} for number in range(2_000)}
    said = warnings({"isolate_products": True, "sections": {"toys": {"stores": stores}, "books": {"stores": stores}}})
    assert said == [
        "job.sections.toys.stores.store-0: `isolate_planets` names no level of the schema, it is kept and does nothing,"
        " did you mean 'isolate_products'? (and 3999 more places)",
        "job.sections.toys.stores.store-0: no `products` here to be split, one task is made of what there is"
        " (and 3999 more places)",
    ]


def test_the_number_of_warnings_is_bounded() -> None:
    """Warnings that differ are said up to a limit, and the others counted."""
    said = warnings({f"isolate_{number}": True for number in range(1_000)})
    assert len(said) == MAX_NOTES + 1
    assert said[-1] == f"job: {1_000 - MAX_NOTES} more warnings"


def test_flags_that_do_nothing() -> None:
    """A flag inside a value of its own level, and one for which there is nothing anywhere, are worth a warning."""
    inner = {"sections": {"toys": {"isolate_sections": True}}}
    assert warnings(inner) == [
        "job.sections.toys: `isolate_sections` does nothing inside a value of its own level, it belongs further out"
    ]
    outer = {"isolate_products": True, "sections": {"toys": {"stores": ["north"]}, "books": None}}
    assert tasks(outer) == [outer]
    assert warnings(outer) == ["job: no `products` anywhere to be split, the job becomes one task"]


def test_no_warnings() -> None:
    """An ordinary job is not warned of."""
    assert warnings({**wide(2, 2), "max_stores_per_batch": 5}) == []


# ---- Stream


def test_everything_is_checked_before_the_first_task() -> None:
    """An error in the last node comes when chunking is called, not after the tasks of the nodes before it."""
    job = wide(3, 3)
    job["sections"]["section-9"]["stores"]["store-2"]["products"] = ["x", None]
    with pytest.raises(InvalidJob) as raised:
        chunk_job(job, THREE, FRIDAY)
    assert raised.value.path == "job.sections.section-9.stores.store-2.products"


def test_routing_names_are_not_in_payloads() -> None:
    """lambda_name and labourer_id go into fields of the task; job_id, timezone and schema name stay in the payload."""
    job = {"lambda_name": "w", "labourer_id": "w", "job_id": "j", "timezone": "UTC", "job_schema_name": "s"}
    assert tasks(job) == [{"job_id": "j", "timezone": "UTC", "job_schema_name": "s"}]


def test_job_is_not_changed() -> None:
    """Chunking changes nothing in the job, and gives the same again."""
    job = {**wide(2, 3), "period": "last_2_days", "isolate_days": True, "stores": [], "lambda_name": "w"}
    before = copy.deepcopy(job)
    assert tasks(job) == tasks(job)
    assert job == before


def test_identity_does_not_matter() -> None:
    """A job in which one dict stands at several places gives the same as one with copies of it."""
    shared = {"products": {"a": None, "b": {"w": 1}}, "isolate_products": True}
    stores = {"north": shared, "south": shared}
    job = {"sections": {"toys": {"stores": stores}, "books": {"stores": stores}}}
    assert tasks(job) == tasks(json.loads(json.dumps(job)))
    assert len(tasks(job)) == 8


def test_tasks_do_not_share_what_is_theirs() -> None:
    """A task may be given further keys, and its lists of values changed, without another task noticing."""
    job = {"isolate_products": True, "sections": {"toys": {"stores": {"north": {"products": {"a": {}, "b": {}}}}}}}
    expected = tasks(job)
    found = []
    for task in chunk_job(job, THREE, FRIDAY):
        found.append(copy.deepcopy(task))
        task["products"].append("x")
        task.clear()
    assert found == expected


def test_tuples_and_subclasses() -> None:
    """A job that was built in Python may hold tuples, and subclasses of text and dict."""

    class Store(str, Enum):
        NORTH = "north"

    job = {"isolate_stores": True, "sections": ({"toys": {"stores": (Store.NORTH, "south")}},)}
    assert [payload_text(task) for task in tasks(job)] == [
        '{"isolate_stores": true, "sections": ["toys"], "stores": ["north"]}',
        '{"isolate_stores": true, "sections": ["toys"], "stores": ["south"]}',
    ]


@pytest.mark.parametrize("shape", [(100, 200), (20_000, 1)])
def test_memory_does_not_grow_with_tasks(shape: tuple[int, int]) -> None:
    """200,000 tasks need less than 1 MB above the job and a few seconds, also with a node of its own for each value."""
    job = wide(*shape)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    started = time.process_time()
    count = sum(1 for _ in chunk_job(job, THREE, FRIDAY))
    spent = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 1_000_000
    assert spent < 30  # tracemalloc included; about one second on an idle machine


# ---- Payloads


def test_payload_text_is_plain_json() -> None:
    """A payload's text is what json.dumps gives, in ASCII, so that its length is its size."""
    payload = {"grüße": "Köln ✓", "a": [1, None, True, 2.5], "b": {"c": {}}}
    assert payload_text(payload) == json.dumps(payload)
    assert json.loads(payload_text(payload)) == payload
    assert payload_text({"k": 3}) == '{"k": 3}'


def test_size_of_a_task() -> None:
    """A payload over the limit of a DynamoDB item, less room for the other fields, is refused with size and limit."""
    assert MAX_PAYLOAD_BYTES == 396 * 1024
    fits = payload_text({"k": "x" * (MAX_PAYLOAD_BYTES - len('{"k": ""}'))})
    check_payload_size(fits)
    with pytest.raises(InvalidJob, match=f"a task of {MAX_PAYLOAD_BYTES + 1} bytes is over the limit of 405504"):
        check_payload_size(fits + " ")
    with pytest.raises(InvalidJob, match="a task of 6 bytes is over the limit of 5"):
        check_payload_size("Köln!", 5)


# ---- What the methods of the class Scheduler delegate to


def test_skeleton_around_a_job() -> None:
    """Flags in the skeleton count; split, the job's attributes win over it, otherwise it is laid over the job."""
    job = {"stores": ["north", "south"], "a": "job"}
    around = {"sections": ["toys"], "a": "skeleton", "isolate_stores": True}
    found = list(chunk_levels(job, THREE, around, "store"))
    assert [(task["sections"], task["stores"], task["a"]) for task in found] == [
        (["toys"], ["north"], "job"),
        (["toys"], ["south"], "job"),
    ]
    assert list(chunk_levels(job, THREE, {"a": "skeleton"}, "store")) == [{**job, "a": "skeleton"}]


def test_days_and_levels_together() -> None:
    """construct_job_data resolves the dates, then splits the levels, with the skeleton laid over the job."""
    job = {"period": "last_2_days", "isolate_days": True, "isolate_sections": True, "sections": ["a", "b"], "k": 1}
    found = list(construct_job_data(job, THREE, FRIDAY, {"k": 2}))
    assert [(task["date_list"], task["sections"], task["k"]) for task in found] == [
        (["2024-02-28"], ["a"], 2),
        (["2024-02-28"], ["b"], 2),
        (["2024-02-29"], ["a"], 2),
        (["2024-02-29"], ["b"], 2),
    ]
    assert [task["date_list"] for task in chunk_dates(job, FRIDAY)] == [["2024-02-28"], ["2024-02-29"]]


@pytest.mark.parametrize("data", [{"b", "a"}, frozenset({"b", "a"}), ("a", "b"), ["a", "b"], {"a": None, "b": None}])
def test_plain_values(data: Any) -> None:
    """The plain values of a list, set, tuple, or dict of None are a list."""
    assert sorted(validate_list_of_vals(data)) == ["a", "b"]


def test_a_flag_for_days_that_finds_none_is_warned_of() -> None:
    """Nobody means to ask for a task per day of a job without days; a list of dates, or a period, has some."""
    (said,) = warnings({"isolate_days": True, "sections": ["a"]})
    assert said == "job: `isolate_days` finds no days (no period, st_date with en_date, or date_list), it does nothing"
    assert warnings({"isolate_days": True, "date_list": ["2024-01-01"], "sections": ["a"]}) == []
    assert warnings({"isolate_days": True, "period": "today", "sections": ["a"]}) == []


@pytest.mark.parametrize("job", [None, 7, "job", ["a"]])
def test_what_is_no_job_is_refused_by_every_chunker(job: Any) -> None:
    """The error is the one of all bad jobs, with its path, whichever function of chunking meets it first."""
    for refuse in (
        lambda: chunk_dates(job, FRIDAY),
        lambda: chunk_job(job, THREE, FRIDAY),
        lambda: chunk_levels(job, THREE),
        lambda: construct_job_data(job, THREE, FRIDAY),
        lambda: needs_chunking("sections", job, THREE),
    ):
        with pytest.raises(InvalidJob) as refusal:
            refuse()
        assert refusal.value.path == "job"
