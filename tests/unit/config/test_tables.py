"""What the section of the task tables may say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.tasks import greenfield
from sosw_celery.errors import ConfigError

NOW = Decimal(1_795_392_000)


def test_no_attempt_may_outlast_what_marks_it_as_running() -> None:
    """An invocation delta of a week and attempts of a week: after five days one would count as queued again."""
    section: dict[str, Any] = {
        "task_config": {"greenfield_invocation_delta": 604_800},
        "labourers": {"short": {}, "long": {"duration": 604_800}},
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(section)
    assert str(caught.value) == (
        "sosw.task_config.greenfield_invocation_delta: expected more than 777900, so that no attempt of long that runs"
        " counts as queued: its duration (604800) and cooldown (300), and 172800 for clocks, got 604800"
    )
    section["task_config"]["greenfield_invocation_delta"] = 777_900
    with pytest.raises(ConfigError):
        load_settings(section)
    section["task_config"]["greenfield_invocation_delta"] = 777_901
    running = greenfield.claimed(NOW, greenfield_delta(load_settings(section)))
    assert running > greenfield.queue_end(NOW + 604_800 + 300 + greenfield.CLOCK_TOLERANCE)
