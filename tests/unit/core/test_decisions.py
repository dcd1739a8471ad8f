"""Where sosw surprises: what we do instead, one test for each line of docs/migrating-from-sosw.md."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import pytest

from sosw_celery.config.jobs import JobSchema
from sosw_celery.config.settings import Settings
from sosw_celery.core.chunking import (
    check_labourer,
    choose_schema,
    chunk_job,
    extract_job,
    labourer_name_from,
    parse_levels,
)
from sosw_celery.core.jobs.periods import DEFAULT_PERIODS, Periods, job_today, last_week
from sosw_celery.errors import ConfigError, InvalidJob

FRIDAY = date(2024, 3, 1)
TWO = ["topic", "word"]
THREE = ["region", "city", "shop"]


def tasks(job: dict[str, Any], levels: list[Any] = TWO, periods: Periods = DEFAULT_PERIODS) -> list[dict[str, Any]]:
    """Return the tasks of a job."""
    return list(chunk_job(job, levels, FRIDAY, periods=periods))


def warnings(job: dict[str, Any], levels: list[Any] = TWO) -> list[str]:
    """Return the warnings about a job that runs."""
    said: list[str] = []
    assert list(chunk_job(job, levels, FRIDAY, warn=said.append))
    return said


def refused(job: dict[str, Any], levels: list[Any] = TWO) -> str:
    """Return the path at which a job is refused."""
    with pytest.raises(InvalidJob) as refusal:
        tasks(job, levels)
    return refusal.value.path


# ---- Chunking


@pytest.mark.parametrize("job", [{"x": 1}, {}, {"isolate_skus": True, "skus": ["a", "b"]}])
def test_q01_no_levels(job: dict[str, Any]) -> None:
    """Q01: without levels every job is one task, itself."""
    assert tasks(job, []) == [job]


def test_q02_dates_in_every_job() -> None:
    """Q02: period and isolate_days are resolved in a job that is not split otherwise."""
    job = {"period": "last_2_days", "topics": {"t": None}}
    assert tasks(job) == [{"topics": {"t": None}, "date_list": ["2024-02-28", "2024-02-29"]}]
    assert tasks({**job, "isolate_days": True}) == [
        {"topics": {"t": None}, "date_list": ["2024-02-28"]},
        {"topics": {"t": None}, "date_list": ["2024-02-29"]},
    ]


def test_q03_singular_key() -> None:
    """Q03: a level in the singular is split once, into tasks that have the plural."""
    assert tasks({"isolate_words": True, "topic": {"t": {"word": ["a", "b"]}}}) == [
        {"isolate_words": True, "topics": ["t"], "words": ["a"]},
        {"isolate_words": True, "topics": ["t"], "words": ["b"]},
    ]


def test_q03_singular_key_of_an_unsplit_level() -> None:
    """Q03: plain values that stay together get the plural too; what has content stays as it is, under its key."""
    job = {"isolate_topics": True, "topics": {"t": {"word": ["a"]}, "u": {"word": {"a": {"w": 1}}}, "v": {"word": "a"}}}
    assert [{key: task[key] for key in task if key.startswith("word")} for task in tasks(job)] == [
        {"words": ["a"]},
        {"word": {"a": {"w": 1}}},
        {"word": "a"},
    ]


@pytest.mark.parametrize("flag", [{}, {"isolate_words": True}, {"max_words_per_batch": 2}])
def test_q04_both_spellings(flag: dict[str, Any]) -> None:
    """Q04: both spellings of a level in a node that is opened are refused."""
    job = {"isolate_topics": True, **flag, "topics": {"u": None, "t": {"word": ["a"], "words": ["b", "c"]}}}
    assert refused(job) == "job.topics.t.words"


def test_q04_both_spellings_at_the_root() -> None:
    """Q04: so are both spellings in the job itself; one that asks for nothing passes as it is."""
    both = {"topic": ["a"], "topics": {"b": {"lang": "en"}}}
    assert refused({"isolate_topics": True, **both}) == "job.topics"
    assert refused({"isolate_words": True, **both, "topics": {"b": {"words": ["c"]}}}) == "job.topics"
    assert tasks(both) == [both]


def test_q05_attributes_beside_children() -> None:
    """Q05: attributes beside a child list are kept, whether or not it is split."""
    job = {"topics": {"t": {"words": ["a"], "lang": "en", "isolate_words": True}, "u": {"words": ["b"], "lang": "de"}}}
    assert [task["lang"] for task in tasks(job)] == ["en", "de"]


def test_q06_shape_of_an_unsplit_dict() -> None:
    """Q06: a dict with content that is not split keeps its shape, with one key as with two."""
    one, two = {"a": {"w": 1}}, {"a": {"w": 1}, "b": None}
    job = {"isolate_topics": True, "topics": {"t": {"words": one}, "u": {"words": two}}}
    assert [task["words"] for task in tasks(job)] == [one, two]


def test_q07_node_without_values() -> None:
    """Q07: a node without values for the level to split is one task with what it has, and a warning."""
    job = {"isolate_words": True, "topics": {"t": {"words": ["a"]}, "u": {}, "v": {"lang": "en"}, "w": {"words": []}}}
    assert tasks(job)[1:] == [
        {"isolate_words": True, "topics": ["u"]},
        {"isolate_words": True, "topics": ["v"], "lang": "en"},
        {"isolate_words": True, "topics": ["w"], "words": []},
    ]
    assert warnings(job) == [
        "job.topics.u: no `words` here to be split, one task is made of what there is (and 2 more places)"
    ]


@pytest.mark.parametrize("nothing", [[], {}, "", 0, None, [{}], [{}, {}]])
def test_q08_root_without_values(nothing: Any) -> None:
    """Q08: a job without values for the level to split is one task as it is, and a warning."""
    job = {"isolate_skus": True, "note": "n", "skus": nothing}
    assert tasks(job, ["sku"]) == [job]
    assert warnings(job, ["sku"]) == ["job: no `skus` here to be split, one task is made of what there is"]
    assert warnings({"isolate_skus": True}, ["sku"]) == warnings(job, ["sku"])


@pytest.mark.parametrize("values", [["t", "u"], "t", 7, ["t", None], [["t"]], {"t": 7}, {"t": "x", "u": None}])
def test_q09_unsplit_values_of_any_shape(values: Any) -> None:
    """Q09: whatever stands at a level that is not split passes through, at every depth."""
    assert tasks({"topics": values}) == [{"topics": values}]
    assert tasks({"regions": {"n": {"citys": values}}, "isolate_regions": True}, THREE)[0]["citys"] == values


def test_q09_flat_values_above_the_leaf() -> None:
    """Q09: flat values above the last level are split when that level is flagged, and only then."""
    assert len(tasks({"topics": ["t", "u"], "isolate_topics": True})) == 2
    assert tasks({"topics": "t", "isolate_topics": True})[0]["topics"] == ["t"]
    assert len(tasks({"topics": ["t", "u"], "isolate_words": True})) == 1


@pytest.mark.parametrize("value", [True, 1, 1.0, "true", "True", "YES", "1"])
def test_q10_flags_that_are_on(value: Any) -> None:
    """Q10: a flag is on as a boolean, as 1, and as one of the texts true, yes and 1 in any case."""
    assert len(tasks({"isolate_skus": value, "skus": ["a", "b"]}, ["sku"])) == 2
    assert len(tasks({"isolate_days": value, "period": "last_2_days"})) == 2


@pytest.mark.parametrize("value", [False, 0, None, "", "false", "FALSE", "No", "0"])
def test_q10_flags_that_are_off(value: Any) -> None:
    """Q10: a flag is off as a boolean, as 0, as nothing, and as one of the texts false, no and 0 in any case."""
    assert len(tasks({"isolate_skus": value, "skus": ["a", "b"]}, ["sku"])) == 1
    assert len(tasks({"isolate_days": value, "period": "last_2_days"})) == 1


@pytest.mark.parametrize("value", ["maybe", "on", 2, -1, 0.5, [], {}, [True]])
def test_q10_other_flags(value: Any) -> None:
    """Q10: any other flag is refused where it stands."""
    assert refused({"topics": {"t": {"isolate_words": value}}}) == "job.topics.t.isolate_words"
    assert refused({"isolate_days": value}) == "job.isolate_days"


@pytest.mark.parametrize(("outer", "inner", "count"), [(True, False, 1), (False, True, 2), (True, None, 1)])
def test_q11_nearest_flag(outer: bool, inner: bool | None, count: int) -> None:
    """Q11: the nearest scope that has a flag decides, in both directions."""
    job = {
        "isolate_topics": True,
        "isolate_words": outer,
        "topics": {"t": {"isolate_word": inner, "words": ["a", "b"]}},
    }
    assert len(tasks(job)) == count


def test_q11_nearest_batch_size() -> None:
    """Q11: the same holds for batch sizes, and an inner one that says none ends the batches."""
    inner = {"t": {"words": ["a", "b", "c"]}, "u": {"max_words_per_batch": 0, "words": ["a", "b", "c"]}}
    job = {"max_words_per_batch": 2, "topics": inner}
    assert [task["words"] for task in tasks(job)] == [["a", "b"], ["c"], ["a", "b", "c"]]


def test_q12_singular_batch_flag() -> None:
    """Q12: both spellings of a batch size work; two different ones in one place are refused."""
    job = {"max_sku_per_batch": 2, "skus": ["a", "b", "c"]}
    assert [task["skus"] for task in tasks(job, ["sku"])] == [["a", "b"], ["c"]]
    assert len(tasks({**job, "max_skus_per_batch": "2"}, ["sku"])) == 2
    assert refused({**job, "max_skus_per_batch": 3}, ["sku"]) == "job.max_skus_per_batch"


@pytest.mark.parametrize("size", [None, False, 0, "0", 0.0])
def test_q13_no_batch_size(size: Any) -> None:
    """Q13: nothing, false and 0 mean no batch size, in a job that is split otherwise as in one that is not."""
    assert len(tasks({"max_skus_per_batch": size, "skus": ["a", "b"]}, ["sku"])) == 1
    assert len(tasks({"max_skus_per_batch": size, "skus": ["a", "b"], "isolate_skus": True}, ["sku"])) == 2


@pytest.mark.parametrize("size", [-1, "-1", 2.5, "2.5", "", "many", " 2", True, [2], {}])
def test_q14_q17_bad_batch_size(size: Any) -> None:
    """Q14, Q17: anything but a positive whole number or its text is refused."""
    assert refused({"max_skus_per_batch": size, "skus": ["a"]}, ["sku"]) == "job.max_skus_per_batch"


@pytest.mark.parametrize("size", [1_000_000, 1_000_001, "1000000", 10**30, 3.0])
def test_q15_large_batch_size(size: Any) -> None:
    """Q15: a million is a batch size like any other."""
    assert len(tasks({"max_skus_per_batch": size, "skus": ["a", "b", "c"]}, ["sku"])) == 1


def test_q16_batches_of_neighbours() -> None:
    """Q16: plain values next to each other are batched, one with content is a task of its own, order is kept."""
    values = {"a": None, "b": None, "c": None, "d": {"w": 1}, "e": None, "f": {}, "g": None, "h": None}
    found = [task["skus"] for task in tasks({"max_skus_per_batch": 2, "skus": values}, ["sku"])]
    assert found == [["a", "b"], ["c"], ["d"], ["e"], ["f"], ["g", "h"]]


def test_q18_own_plural() -> None:
    """Q18: a level may name its plural; keys, flags and tasks use it."""
    levels = ["region", ("city", {"plural": "cities"})]
    node = {"cities": ["oslo", "lima", "rome"]}
    assert tasks({"isolate_cities": True, "regions": {"n": node}}, levels)[0]["cities"] == ["oslo"]
    assert tasks({"isolate_city": True, "regions": {"n": {"city": "oslo"}}}, levels)[0]["cities"] == ["oslo"]
    assert len(tasks({"max_cities_per_batch": 2, "regions": {"n": node}}, levels)) == 2
    assert "did you mean 'isolate_city'" in warnings({"isolate_citys": True, "regions": {"n": node}}, levels)[0]


@pytest.mark.parametrize("value", [0, "", False, [], {}, None])
def test_q19_falsy_values(value: Any) -> None:
    """Q19: a falsy value of a level that is not split stays."""
    assert tasks({"isolate_topics": True, "topics": {"t": {"words": value}}})[0]["words"] == value


@pytest.mark.parametrize("content", [{"topics": "other"}, {"topic": "other"}, {"topics": []}])
def test_q20_attribute_named_like_an_upper_level(content: dict[str, Any]) -> None:
    """Q20: an inner attribute with the name of an upper level is refused in a node that is opened."""
    job = {"topics": {"t": {"words": {"a": content, "b": None}}}}
    assert refused({**job, "isolate_words": True}).startswith("job.topics.t.words.a.topic")
    assert tasks({**job, "isolate_topics": True})[0]["words"] == {"a": content, "b": None}


def test_q21_cross_product() -> None:
    """Q21: values of a lower level beside an upper one belong to each of its values."""
    job = {"isolate_topics": True, "isolate_words": True, "topics": ["t", "u"], "words": ["a", "b"]}
    assert [(task["topics"], task["words"]) for task in tasks(job)] == [
        (["t"], ["a"]),
        (["t"], ["b"]),
        (["u"], ["a"]),
        (["u"], ["b"]),
    ]


def test_q21_cross_product_over_levels() -> None:
    """Q21: they are handed down through the levels between, with the flags that count there."""
    regions = {"n": {"citys": {"a": {"isolate_shops": False}, "b": None}}, "s": None}
    job = {"isolate_shops": True, "regions": regions, "shops": ["k", "l"]}
    assert [(task["regions"], task.get("citys"), task["shops"]) for task in tasks(job, THREE)] == [
        (["n"], ["a"], ["k", "l"]),
        (["n"], ["b"], ["k"]),
        (["n"], ["b"], ["l"]),
        (["s"], None, ["k"]),
        (["s"], None, ["l"]),
    ]


@pytest.mark.parametrize("spelling", ["word", "words"])
def test_q21_both_beside_and_inside(spelling: str) -> None:
    """Q21: values both beside an upper level and inside it are refused."""
    job = {"isolate_words": True, "topics": {"t": {spelling: ["a"]}}, "words": ["x"]}
    assert refused(job) == f"job.topics.t.{spelling}"


def test_q22_list_of_dicts() -> None:
    """Q22: the dicts of a list are split together, as if they were one."""
    job = {"max_skus_per_batch": 2, "skus": [{"a": None}, {}, {"b": None, "c": {"w": 1}}, {"d": None}]}
    assert [task["skus"] for task in tasks(job, ["sku"])] == [["a", "b"], ["c"], ["d"]]


def test_q23_missing_level() -> None:
    """Q23: a level that is missing in the middle is skipped, what is below is split."""
    job = {"isolate_shops": True, "regions": {"n": {"shops": ["k", "l"]}}}
    assert [task["shops"] for task in tasks(job, THREE)] == [["k"], ["l"]]
    assert [task["shops"] for task in tasks({"isolate_shops": True, "shops": ["k", "l"]}, THREE)] == [["k"], ["l"]]


def test_q23_missing_level_that_is_flagged() -> None:
    """Q23, Q07: a skipped level that was to be split is worth a warning."""
    job = {"isolate_citys": True, "regions": {"n": {"shops": ["k", "l"]}}}
    assert tasks(job, THREE) == [{"isolate_citys": True, "regions": ["n"], "shops": ["k", "l"]}]
    assert warnings(job, THREE)[0].startswith("job.regions.n: no `citys` here to be split")


def test_q24_labourer_id() -> None:
    """Q24: labourer_id may stand for lambda_name, or say the same."""
    assert extract_job({"labourer_id": "w", "x": 1}) == {"lambda_name": "w", "x": 1}
    assert extract_job({"labourer_id": "w:3", "lambda_name": "w", "x": 1}) == {"lambda_name": "w", "x": 1}


def test_q24_two_labourers() -> None:
    """Q24: two different ones are refused; a job that is split goes to lambda_name, as in sosw, with a warning."""
    job = extract_job({"labourer_id": "v", "lambda_name": "w", "topics": ["t"]})
    assert refused(job) == "job.labourer_id"
    assert tasks({**job, "isolate_topics": True}) == [{"isolate_topics": True, "topics": ["t"]}]
    assert warnings({**job, "isolate_topics": True})[0].startswith("job: `labourer_id` names another labourer")


def test_q25_dates_twice() -> None:
    """Q25: date_list and period together are refused."""
    assert refused({"date_list": ["2001-01-01"], "period": "today"}) == "job.date_list"


def test_q26_singular_day_flag() -> None:
    """Q26: isolate_day is isolate_days; one of them is enough."""
    for flags in ({"isolate_day": True}, {"isolate_days": True}, {"isolate_day": False, "isolate_days": True}):
        assert tasks({"period": "last_2_days", **flags}) == [
            {"date_list": ["2024-02-28"]},
            {"date_list": ["2024-02-29"]},
        ]


def test_q26_level_called_day() -> None:
    """Q26: a level called day owns the flag in a job without dates, and only there."""
    job = {"isolate_days": True, "days": ["mon", "tue"], "x": 1}
    assert [task["days"] for task in tasks(job, ["day"])] == [["mon"], ["tue"]]
    dated = tasks({**job, "period": "last_2_days"}, ["day"])
    assert dated == [{"days": ["mon", "tue"], "x": 1, "date_list": [day]} for day in ("2024-02-28", "2024-02-29")]


@pytest.mark.parametrize("flag", ["isolate_skuss", "max_skuss_per_batch", "isolate_planets", "max_x_per_batch"])
def test_q27_stray_flag(flag: str) -> None:
    """Q27: a flag that names no level does nothing, is kept, and is worth a warning."""
    job = {flag: True, "skus": {"a": {flag: 2}}, "isolate_skus": True}
    assert tasks(job, ["sku"]) == [{flag: 2, "isolate_skus": True, "skus": ["a"]}]
    assert [said.split(":")[0] for said in warnings(job, ["sku"])] == ["job", "job.skus.a"]


def test_q27_suggestion() -> None:
    """Q27: the warning says what may have been meant."""
    job = {"isolate_skuss": True, "skus": ["a"]}
    assert warnings(job, ["sku"]) == [
        "job: `isolate_skuss` names no level of the schema, it is kept and does nothing, did you mean 'isolate_skus'?"
    ]


def test_q28_unknown_schema() -> None:
    """Q28: an unknown schema is refused with the names of those that exist."""
    with pytest.raises(InvalidJob, match="expected one of deep, default, did you mean 'deep'") as refusal:
        choose_schema({"job_schema_name": "depp"}, [], {"deep": THREE})
    assert refusal.value.path == "job.job_schema_name"
    with pytest.raises(InvalidJob):
        choose_schema({"job_schema_name": ["deep"]}, [], {"deep": THREE})


# ---- Periods


@pytest.mark.parametrize(
    "period", ["last_3_daysX", "todayfoo", "yesterday_morning", "3_days_backwards", "last_weekend"]
)
def test_d01_whole_match(period: str) -> None:
    """D01: a pattern has to match the whole period."""
    assert refused({"period": period}) == "job.period"


def test_d02_last_week_on_a_sunday() -> None:
    """D02: last_week is the last complete Sunday to Saturday before today, on Sundays and Saturdays too."""
    assert last_week("last_week", date(2024, 3, 10))[::6] == ["2024-03-03", "2024-03-09"]
    assert last_week("last_week", date(2024, 3, 9))[::6] == ["2024-02-25", "2024-03-02"]


@pytest.mark.parametrize("period", ["last_0_days", "previous_0_days", "last_999999_days", 7, True, ["today"]])
def test_d03_d06_d07_senseless_periods(period: Any) -> None:
    """D03, D06, D07: zero days, absurd numbers and what is not text are refused."""
    assert refused({"period": period}) == "job.period"
    assert refused({"period": period, "isolate_days": True}) == "job.period"


def test_d04_one_error_with_the_pattern() -> None:
    """D04: a bad period is an InvalidJob with its text, from a period's own function as from a job."""
    with pytest.raises(InvalidJob, match="xlast_week"):
        last_week("xlast_week", FRIDAY)
    with pytest.raises(InvalidJob, match="xlast_week"):
        tasks({"period": "xlast_week"})


def test_d05_time_zone() -> None:
    """D05: today is the date in the job's zone, else in the configured one, else in UTC."""
    now = datetime(2024, 3, 1, 23, 30, tzinfo=timezone.utc)
    assert job_today("Asia/Tokyo", "America/Lima", now) == date(2024, 3, 2)
    assert job_today(None, "Asia/Tokyo", now) == date(2024, 3, 2)
    assert job_today(None, None, now) == date(2024, 3, 1)


def test_d08_own_periods() -> None:
    """D08: own periods are reached though a built-in one begins like them, and their errors come through."""

    def broken(match: Any, today: date) -> list[str]:
        raise TypeError("a mistake of its own")

    own = DEFAULT_PERIODS.extended({"today_utc": lambda match, today: ["x"], "today_broken": broken})
    assert tasks({"period": "today_utc"}, periods=own) == [{"date_list": ["x"]}]
    with pytest.raises(TypeError, match="a mistake of its own"):
        tasks({"period": "today_broken"}, periods=own)


# ---- Configuration


def test_c01_names_that_end_in_s() -> None:
    """C01: a name that ends in "s" needs a plural of its own, and then works."""
    with pytest.raises(ConfigError, match="the plural beside it") as error:
        parse_levels(["region", "address"])
    assert error.value.key == "sosw.job_schema.chunkable_attrs[1]"
    levels = [("address", {"plural": "addresses"}), ("news", {"plural": "news"})]
    job = {"isolate_addresses": True, "isolate_news": True, "address": {"a": {"news": ["x", "y"]}}}
    assert [(task["addresses"], task["news"]) for task in tasks(job, levels)] == [(["a"], ["x"]), (["a"], ["y"])]


def test_c02_c04_which_schema() -> None:
    """C02, C04: without a name the variant `default` is used where there is one, else the schema itself."""
    assert choose_schema({}, {}, {"default": TWO}) == TWO
    assert choose_schema({}, {"chunkable_attrs": TWO}, {}) == TWO
    assert choose_schema({"job_schema_name": None}, {"chunkable_attrs": TWO}, {"deep": THREE}) == TWO
    assert choose_schema({"job_schema_name": "default"}, TWO, {"deep": {"chunkable_attrs": THREE}}) == TWO
    assert choose_schema({"job_schema_name": "deep"}, TWO, {"deep": {"chunkable_attrs": THREE}}) == THREE
    assert choose_schema({}, {}, {}) == ()
    for empty in ({}, {"chunkable_attrs": []}, JobSchema()):
        assert choose_schema({}, TWO, {"default": empty}) == TWO
        assert choose_schema({"job_schema_name": "default"}, TWO, {"default": empty}) == TWO
        assert choose_schema({}, {}, {"default": empty}) == ()


def test_c03_names_as_text() -> None:
    """C03: levels may be plain names, pairs in tuples or lists, or a mixture."""
    assert parse_levels(["region", ("city", {}), ["shop", {"plural": "shops"}]]) == parse_levels(THREE)


def test_c05_lists_replace() -> None:
    """C05: the levels of a configuration are those that it gives, merged with nothing."""
    schema = {"chunkable_attrs": ["region", "city"]}
    settings = Settings.model_validate(
        {"job_schema": schema, "job_schema_variants": {"one": {"chunkable_attrs": ["x"]}}}
    )
    assert list(choose_schema({}, settings.job_schema, settings.job_schema_variants)) == ["region", "city"]
    assert list(choose_schema({"job_schema_name": "one"}, settings.job_schema, settings.job_schema_variants)) == ["x"]


# ---- Events


@pytest.mark.parametrize(
    "text",
    [
        "w",
        "w:prod",
        "w:3",
        "w:$LATEST",
        "123456789012:function:w",
        "123456789012:function:w:prod",
        "arn:aws:lambda:eu-west-1:123456789012:function:w",
        "arn:aws:lambda:eu-west-1:123456789012:function:w:7",
        "arn:aws-cn:lambda:cn-north-1:123456789012:function:w",
        "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:w:prod",
    ],
)
def test_h01_h02_names_and_arns(text: str) -> None:
    """H01, H02: version, alias and partition are understood, with the whole ARN and with parts of it."""
    assert labourer_name_from(text) == "w"


def test_h03_wrappers() -> None:
    """H03: only an event without a name of its own is a wrapper; in any other, `job` is an attribute."""
    inner = {"lambda_name": "inner", "k": 2}
    assert extract_job({"job": inner}) == inner
    assert extract_job({"lambda_name": "w", "job": inner}) == {"lambda_name": "w", "job": inner}
    assert extract_job({"lambda_name": "w", "job": "nightly"}) == {"lambda_name": "w", "job": "nightly"}


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ({"job": {"lambda_name": "w"}, "period": "today"}, "job.period"),
        ({"job": {"k": 1}, "lambda_name": "w"}, "job.job"),
    ],
)
def test_h03_nothing_beside_a_wrapped_job_is_lost(event: dict[str, Any], path: str) -> None:
    """H03: attributes or a name beside a wrapped job are refused instead of dropped or taken for something else."""
    with pytest.raises(InvalidJob) as refusal:
        extract_job(event)
    assert refusal.value.path == path


@pytest.mark.parametrize(
    "event",
    ["null", '["lambda_name"]', "5", "", None, 9, [], {"job": None}, {"job": 5}, {"job": "null"}, {"job": "x"}, {},
     {"lambda_name": None}, {"lambda_name": ""}, {"lambda_name": 5}, {"lambda_name": ["w"]}, {"lambda_name": ":"},
     {"labourer_id": ""}, {"lambda_name": "arn:aws:sqs:eu-west-1:123456789012:queue"}],
)  # fmt: skip
def test_h04_odd_events(event: Any) -> None:
    """H04: whatever is no job gives one kind of error."""
    with pytest.raises(InvalidJob):
        extract_job(event)


def test_h04_unknown_labourer() -> None:
    """H04: a name that nobody registered is refused with a suggestion."""
    check_labourer("word_counter", {"word_counter"})
    with pytest.raises(InvalidJob, match="did you mean 'word_counter'"):
        check_labourer("word_conter", {"word_counter"})


# ---- Outcome


def test_s05_no_tasks() -> None:
    """S05: every job gives at least one task; a period that would leave none is refused."""
    never = DEFAULT_PERIODS.extended({"never": lambda match, today: []})
    for flag in (True, False):
        with pytest.raises(InvalidJob):
            tasks({"period": "never", "isolate_days": flag}, periods=never)
