"""Apps that carry the system, for one test each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from celery import Celery

from sosw_celery import celery as apps
from sosw_celery.celery import LOADER, install
from sosw_celery.labourer import worker


def theirs(
    monkeypatch: pytest.MonkeyPatch, section: Mapping[str, Any] | None, app: Celery | None = None, **options: Any
) -> Celery:
    """Return an app of somebody's, with the system on it: the only one that has it, as long as the test lasts.

    Parameters:
        app: One that is there already.
    """
    monkeypatch.setattr(apps, "_installed", [])
    monkeypatch.setattr(worker, "_labourers", [])  # a class of another test is bound to the app of that one
    return install(app or Celery("of-this-test", broker="memory://", set_as_current=False, **options), section)


def like_ours(monkeypatch: pytest.MonkeyPatch, name: str, **settings: Any) -> Celery:
    """Return an app as `sosw_celery.app` is one, with these settings of Celery and section `sosw`."""
    monkeypatch.setattr(apps, "_installed", [])
    app = install(Celery(name, loader=LOADER, set_as_current=False, fixups=[]))
    monkeypatch.setattr(apps, "_ours", app)
    app.config_from_object(settings)
    return app
