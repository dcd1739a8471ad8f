"""A Scheduler of one's own takes the place of ours, in the service and in what the commands show."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from celery import Celery

from sosw_celery.config.settings import load_settings
from sosw_celery.errors import ConfigError
from sosw_celery.services.preview import preview_of
from sosw_celery.services.scheduler import Scheduler, scheduler_class
from sosw_celery.wiring.container import services_of

SECTION = {
    "labourers": {"resize": {}},
    "job_schema": {"chunkable_attrs": ["store"]},
    "scheduler_class": "our_module:OurScheduler",
    "custom_period_patterns": {"first_of_([0-9]{4})": "first_of_year"},
}


class OurScheduler(Scheduler):
    """Marks each payload, and knows a period of its own."""

    def first_of_year(self, pattern: str) -> list[str]:
        """Return New Year's Day of the year in the text."""
        return [f"{pattern[-4:]}-01-01"]

    def construct_job_data(self, job: Any, skeleton: Any = None) -> list[dict[str, Any]]:
        """Return the payloads with a mark."""
        return [{**payload, "marked": True} for payload in super().construct_job_data(job, skeleton)]


@pytest.fixture(autouse=True)
def _our_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("our_module")
    vars(module).update(OurScheduler=OurScheduler, NoScheduler=dict)
    monkeypatch.setitem(sys.modules, "our_module", module)


def test_the_service_is_of_the_class_that_the_settings_name() -> None:
    """Workers make jobs into rows by the class of `scheduler_class`."""
    app = Celery("of-this-test", set_as_current=False)
    app.conf.sosw = {**SECTION, "aws_region": "eu-west-1"}
    assert type(services_of(app).scheduler) is OurScheduler
    app.close()


def test_without_the_key_the_class_is_ours() -> None:
    """Nobody has to name a class."""
    assert scheduler_class(load_settings({})) is Scheduler


def test_preview_shows_what_the_own_class_makes_of_a_job() -> None:
    """Its chunkers and its periods count in `preview` as they do in the service, and so do warnings."""
    job = {"lambda_name": "resize", "period": "first_of_2026", "isolate_stroes": True, "stores": ["a", "b"]}
    found = preview_of(job, load_settings(SECTION), sample=9)
    assert found.sample == [
        '{"isolate_stroes": true, "stores": ["a", "b"], "date_list": ["2026-01-01"], "marked": true}'
    ]
    assert ["isolate_stroes" in warning for warning in found.warnings] == [True]


@pytest.mark.parametrize("place", ["no_such_module:OurScheduler", "our_module:Other", "our_module:NoScheduler"])
def test_a_class_that_is_not_there_is_named_with_its_key(place: str) -> None:
    """What is no Scheduler is refused with the key and what was found there."""
    with pytest.raises(ConfigError, match=r"sosw\.scheduler_class: expected a subclass of .*our_module|no_such"):
        scheduler_class(load_settings({**SECTION, "scheduler_class": place}))


def test_a_value_that_names_no_class_is_refused_when_it_is_read() -> None:
    """A module alone is not enough."""
    with pytest.raises(ConfigError, match="a module and a class in it, as my_module:OurScheduler"):
        load_settings({**SECTION, "scheduler_class": "our_module"})
