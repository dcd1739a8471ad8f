"""What a configuration may say about health; sosw's can be pasted."""

from __future__ import annotations

from typing import Any

import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.core.health import COEFFICIENTS, EcoStatus, feel
from sosw_celery.errors import ConfigError

#: The metric of sosw's documents.
PASTED = {
    "details": {
        "Name": "CPUUtilization",
        "Namespace": "AWS/RDS",
        "Period": 60,
        "Statistics": ["Average"],
        "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "YOUR-DB"}],
    },
    "feelings": {3: 50, 4: 25},
    "feeling_comparison_operator": "<=",
}


def labourers(**metric: Any) -> dict[str, Any]:
    """A section with one labourer that has one metric."""
    stated = {
        "source": "prometheus",
        "details": {"url": "http://prometheus:9090", "query": "up"},
        "feelings": {4: 1},
        "feeling_comparison_operator": ">=",
        **metric,
    }
    return {"labourers": {"resize": {"health_metrics": {"M": stated}}}}


def test_the_metric_of_sosws_documents_can_be_pasted() -> None:
    """With its `Name` for `MetricName`, its `<=`, and `ecology_config` inside `task_config`."""
    settings = load_settings(
        {
            "task_config": {
                "ecology_config": {"init_clients": ["cloudwatch"], "default_metric_values": {"Period": 30}},
                "labourers": {"some_function": {"health_metrics": {"SomeDBCPU": PASTED}}},
            },
            "invocation_number_coefficient": {0: 0, 1: 0, 2: 0.5, 3: 0.75, 4: 1},
        }
    )
    (metric,) = settings.labourer("some_function").health_metrics
    assert (metric.name, metric.source, metric.refresh_s) == ("SomeDBCPU", "cloudwatch", 60)
    assert metric.details == {
        "MetricName": "CPUUtilization",
        "Namespace": "AWS/RDS",
        "Period": 60,
        "Statistics": ["Average"],
        "MetricAggregationTimeSlice": 300,
        "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "YOUR-DB"}],
    }
    assert feel(30, metric.feelings) == EcoStatus.GOOD
    assert settings.health_coefficients == COEFFICIENTS


def test_a_metric_has_the_values_of_ecology_config_unless_it_states_its_own() -> None:
    """Period, time, fallback and grace: each metric has them all."""
    config = {"fallback_status": 2, "timeout_s": 1, "grace_s": 7, "default_metric_values": {"Period": 15}}
    (common,) = load_settings({**labourers(), "ecology_config": config}).labourer("resize").health_metrics
    assert (common.refresh_s, common.timeout_s, common.grace_s, common.fallback) == (15, 1, 7, 2)
    stated = labourers(refresh_s=3, timeout_s=2, fallback_status=0, feeling_margin=0.5)
    (own,) = load_settings({**stated, "ecology_config": config}).labourer("resize").health_metrics
    assert (own.refresh_s, own.timeout_s, own.fallback, own.feelings.margin) == (3, 2, 0, 0.5)


def test_labourers_without_metrics_have_none() -> None:
    """sosw takes None for no metrics as well."""
    settings = load_settings({"labourers": {"resize": {"health_metrics": None}}})
    assert settings.labourer("resize").health_metrics == ()
    assert settings.labourer("not configured").health_metrics == ()


def test_coefficients_that_are_not_stated_keep_their_value() -> None:
    """As sosw merges configurations; keys may be texts, as JSON has them."""
    settings = load_settings({"invocation_number_coefficient": {"1": 0.1, 2: 0.25}})
    assert settings.health_coefficients == {**COEFFICIENTS, EcoStatus.POOR: 0.1, EcoStatus.MODERATE: 0.25}


def test_a_function_may_be_the_source() -> None:
    """A function of a module, itself or by its path; and sources of one's own by their name."""
    for function in (feel, "some_module:some_function"):
        load_settings(labourers(source="callable", details={"function": function, "arguments": {"a": 1}}))
    own = {**labourers(source="mine", details={"what": "ever"}), "ecology_config": {"sources": {"mine": feel}}}
    assert load_settings(own).labourer("resize").health_metrics[0].source == "mine"


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        (labourers(source="prometeus"), "M.source", "did you mean 'prometheus'"),
        (labourers(source="cloudwatch", details={"MetricName": "a"}), "M.details.Namespace", "a text"),
        (
            labourers(source="cloudwatch", details={**PASTED["details"], "Statistics": ["Average", "Sum"]}),  # type: ignore[dict-item]
            "M.details.Statistics",
            "a list of one of",
        ),
        (labourers(details={"url": "http://p"}), "M.details", "url, query"),
        (labourers(details={"url": "file:///etc/passwd", "query": "up"}), "M.details.url", "http://"),
        (labourers(details={"url": "http://p", "query": 3}), "M.details.query", "PromQL"),
        (labourers(details={"url": "http://p", "query": "up", "headers": "x"}), "M.details.headers", "a dict"),
        (labourers(source="callable", details={"function": lambda: 1}), "M.details.function", "module:function"),
        (labourers(source="callable", details={"function": "name"}), "M.details.function", "module:function"),
        (labourers(source="callable", details={"function": "a:b", "arguments": 3}), "M.details.arguments", "keyword"),
        (labourers(feelings={4: 1, 3: 2}), "M.feelings", "not above"),
        (labourers(feeling_comparison_operator="=>"), "M.feeling_comparison_operator", "one of"),
        (labourers(feeling={}), "M.feeling", "did you mean 'feelings'"),
        (labourers(fallback_status=5), "M.fallback_status", "4"),
        (labourers(feeling_margin=-1), "M.feeling_margin", "0"),
        ({"ecology_config": {"falback_status": 1}}, "ecology_config.falback_status", "did you mean 'fallback_status'"),
        ({**labourers(), "ecology_config": {"default_metric_values": {"Period": 0}}}, "M.details.Period", "above 0"),
        ({"invocation_number_coefficient": {5: 1}}, "invocation_number_coefficient", "4"),
        ({"invocation_number_coefficient": {4: 1.5}}, "invocation_number_coefficient.4", "1"),
        ({"task_config": {"max_closed_to_analyse_for_duration": 0}}, "max_closed_to_analyse_for_duration", "1"),
    ],
)
def test_what_cannot_work_is_refused_at_start(section: dict[str, Any], key: str, expected: str) -> None:
    """Each mistake is named by its dotted path, with what is expected."""
    with pytest.raises(ConfigError) as refused:
        load_settings(section)
    assert key in refused.value.key
    assert expected in str(refused.value)
