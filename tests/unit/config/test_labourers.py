"""What the settings say of a labourer, with every value stated."""

from __future__ import annotations

from sosw_celery.config.settings import load_settings
from sosw_celery.core.rates import Rate
from sosw_celery.core.tasks.retrying import RetryPolicy


def test_labourers_have_the_values_of_the_section_unless_they_state_their_own() -> None:
    """A labourer's own settings win; what it does not state is taken from the section."""
    settings = load_settings(
        {
            "max_attempts": 7,
            "retry_backoff": 2,
            "labourers": {
                "plain": {"max_simultaneous_invocations": 4},
                "own": {"max_attempts": 1, "retry_jitter": False, "rate_limit": "90/m", "duration": 30, "cooldown": 5},
            },
        }
    )
    assert settings.labourer("plain").slots == 4
    assert settings.labourer("plain").retry_policy == RetryPolicy(7, 2, 600, jitter=True)
    own = settings.labourer("own")
    assert own.retry_policy == RetryPolicy(1, 2, 600, jitter=False)
    assert (own.rate, own.duration_s, own.cooldown_s) == (Rate(90, 60), 30, 5)
    assert settings.labourer("nobody configured").slots == 1


def test_a_labourer_may_state_its_burst() -> None:
    """How many start at once after a pause; else it is what the rate gives in a tenth of a second."""
    section = {"labourers": {"a": {"rate_limit": "100/s", "rate_burst": 3}, "b": {"rate_limit": "100/s"}}}
    rates = [load_settings(section).labourer(name).rate for name in "ab"]
    assert [rate.burst for rate in rates if rate] == [3, 10]
