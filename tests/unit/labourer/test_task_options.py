"""Celery's task options on labourers: each works as in Celery, or is refused with what is there in its place."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from celery.app import autoretry
from celery.app import task as celery_task
from celery.exceptions import CDeprecationWarning
from celery.utils.time import rate

from sosw_celery import Worker
from sosw_celery.errors import ConfigError
from sosw_celery.labourer.task_options import OURS, REFUSED, SAME
from tests.apps import theirs

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "celery-options.md"

#: Celery's function that reads a task's options of messages.
OF_MESSAGES: Any = vars(celery_task)["extract_exec_options"]
#: Members of Celery's Task that are no options.
NO_OPTIONS = {
    "MaxRetriesExceededError",
    "OperationalError",
    "abstract",
    "app",
    "from_config",
    "request",
    "request_stack",
}
#: Parameters of the decorator that say how it works, not what the task is.
OF_THE_DECORATOR = {"self", "args", "opts", "fun", "options", "shared", "lazy", "filter"}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app of its own."""
    with theirs(monkeypatch, {"labourers": {"resize": {}}}) as app:
        yield app


def make(app: Celery, **options: Any) -> Any:
    """Register a labourer with these options. Of some Celery says that it will not know them for ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CDeprecationWarning)
        decorator: Any = app.task(base=Worker, name="resize", lazy=False, shared=False, **options)
        return decorator(body)


def body(event: dict[str, Any]) -> None:
    """Do nothing."""


def all_options() -> set[str]:
    """Return every option that this version of Celery knows."""
    members = {name for name, value in vars(Task).items() if not name.startswith("_") and _is_value(value)}
    configured = {name for name, _ in Task.from_config}
    of_messages = set(OF_MESSAGES(object()))
    of_retries = set(re.findall(r"getattr\(task, '(\w+)'", inspect.getsource(autoretry)))
    deprecated = set(
        re.findall(r"'(\w+)'", inspect.getsource(Task.bind).partition("for attr in (")[2].partition("):")[0])
    )
    of_decorator = {*inspect.signature(Celery._task_from_fun).parameters, *inspect.signature(Celery.task).parameters}
    found = members | configured | of_messages | of_retries | deprecated | of_decorator
    return found - NO_OPTIONS - OF_THE_DECORATOR - {"_orig_run", "override_max_retries"}


def _is_value(value: Any) -> bool:
    return isinstance(value, (str, property)) or not (callable(value) or isinstance(value, (classmethod, staticmethod)))


def test_every_option_of_celerys_has_its_meaning() -> None:
    """Exactly one; a new one of Celery's is noticed here."""
    ours = [*SAME, *OURS, *REFUSED]
    assert len(ours) == len(set(ours))
    assert set(ours) == all_options()
    assert {"rate_limit", "autoretry_for", "acks_on_timeout", "pydantic", "exchange_type"} <= all_options()


def test_the_page_tells_of_each() -> None:
    """With the same verdict, in the order of the alphabet."""
    rows = re.findall(r"^\| `(\w+)` \| (as in Celery|fixed|refused) \|", PAGE.read_text(), re.MULTILINE)
    verdicts = dict.fromkeys(SAME, "as in Celery") | dict.fromkeys(OURS, "fixed") | dict.fromkeys(REFUSED, "refused")
    assert rows == sorted(verdicts.items(), key=lambda row: row[0].lower())


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_without_effect_is_refused(app: Celery, option: str) -> None:
    """In a decorator, with what is there in its place; nothing is registered."""
    with pytest.raises(ConfigError) as refused:
        make(app, **{option: 7})
    expected = f"{option} of labourer 'resize': expected no such option: {REFUSED[option].format(name='resize')}, got "
    assert str(refused.value).startswith(expected)
    assert "resize" not in app.tasks


@pytest.mark.parametrize("option", OURS)
def test_another_value_than_ours_is_refused(app: Celery, option: str) -> None:
    """The promises stand on ours; to state that one does no harm."""
    ours = OURS[option]
    with pytest.raises(ConfigError) as refused:
        make(app, **{option: not ours.value})
    expected = f"{option} of labourer 'resize': expected {ours.value}: {ours.why}, got {not ours.value}"
    assert str(refused.value) == expected
    assert getattr(make(app, **{option: ours.value}), option) is ours.value


def test_a_class_its_base_and_annotations_are_asked_as_well(app: Celery) -> None:
    """Wherever an option is stated, it is met when the labourer is registered."""
    base = type("Base", (Worker,), {"abstract": True, "max_retries": 3})
    key = "max_retries of labourer 'thumb': expected no such option: sosw.labourers.thumb.max_attempts"
    with pytest.raises(ConfigError, match=re.escape(key)):
        type("Thumb", (base,), {"name": "thumb", "__call__": lambda self, event: None})
    app.conf.task_annotations = {"resize": {"rate_limit": "6/m"}}
    with pytest.raises(ConfigError, match=r"rate_limit of labourer 'resize': .*sosw\.labourers\.resize\.rate_limit"):
        make(app)


def test_annotations_of_every_task_are_not_meant_for_labourers(app: Celery) -> None:
    """A project's own tasks have them; those of a labourer's name count, also what they put around a method."""
    around: list[str] = []

    def noted(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            around.append("called")
            return method(*args, **kwargs)

        return call

    app.conf.task_annotations = {
        "*": {"rate_limit": "10/s", "max_retries": 5, "time_limit": 9, "serializer": "pickle"},
        "resize": {"soft_time_limit": 3, "@after_return": noted},
    }
    labourer = make(app)
    assert (rate(labourer.rate_limit), labourer.time_limit, labourer.soft_time_limit) == (0, None, 3)
    labourer.after_return(None, None, "id", [], {}, None)
    assert around == ["called"]

    @app.task(name="plain", shared=False)
    def plain() -> None: ...

    app.finalize()
    assert (app.tasks["plain"].rate_limit, app.tasks["plain"].time_limit) == ("10/s", 9)


def test_a_default_rate_for_all_tasks_is_none_of_a_labourer(app: Celery) -> None:
    """Celery's counts per node and holds hints back, which then lose their slots."""
    app.conf.task_default_rate_limit = "10/s"
    assert rate(make(app).rate_limit) == 0  # what Celery takes for no limit


def test_defaults_of_celery_that_no_labourer_follows_are_no_matter(app: Celery) -> None:
    """They are for the other tasks of the app."""
    app.conf.update(
        task_acks_late=False,
        task_acks_on_failure_or_timeout=False,
        task_reject_on_worker_lost=True,
        task_retry_on_worker_lost=True,
        task_ignore_result=False,
        task_default_priority=3,
        task_serializer="yaml",
    )
    vars(app)["strict_typing"] = False
    labourer = make(app)
    assert {option: getattr(labourer, option) for option in OURS} == {
        option: ours.value for option, ours in OURS.items()
    }
    again: Any = type("Again", (type(labourer),), {"abstract": True, "name": "again", "run": staticmethod(body)})
    again.bind(app)


@pytest.mark.parametrize(("option", "value"), [("soft_time_limit", 5), ("time_limit", 9), ("throws", (KeyError,))])
def test_an_option_that_works_is_kept(app: Celery, option: str, value: Any) -> None:
    """As it is stated."""
    assert getattr(make(app, **{option: value}), option) == value
