"""What a node says of its queues when it starts."""

from __future__ import annotations

import pytest

from sosw_celery.system.start_checks import problems_of_queues

ESSENTIALS = ["sosw_scheduler", "sosw_orchestrator", "sosw_scavenger", "sosw_worker_assistant"]


@pytest.mark.parametrize("queues", [ESSENTIALS, ["resize"], ["resize", "sosw_scheduler"], ["resize", "fetch"]])
def test_a_node_for_what_there_is_says_nothing(queues: list[str]) -> None:
    """Queues of the system and of labourers with code are all right, in any mix."""
    assert problems_of_queues(queues, ["resize", "fetch"], {"resize", "fetch"}) == []


def test_a_node_without_a_queue_of_ours_says_how_to_start_it() -> None:
    """Without -Q, Celery takes messages from its own default queue, on which nothing of ours ever comes."""
    (line,) = problems_of_queues(["celery"], ["resize"], {"resize"})
    assert line == (
        "this node serves no labourer and does none of the system's work (its queues: 'celery'); start it with "
        "-Q resize, or with -Q sosw_scheduler,sosw_orchestrator,sosw_scavenger,sosw_worker_assistant"
    )


def test_a_mistyped_queue_gets_a_suggestion() -> None:
    """Alone and among others."""
    (alone,) = problems_of_queues(["resise"], ["resize"], {"resize"})
    assert "'resise', did you mean 'resize'?" in alone
    (among,) = problems_of_queues(["resize", "sosw_sheduler"], ["resize"], {"resize"})
    assert among == "queue 'sosw_sheduler' is neither a labourer's nor the system's, did you mean 'sosw_scheduler'?"


def test_a_labourer_whose_code_nobody_imported_is_named() -> None:
    """Its hints come here and cannot be run."""
    (line,) = problems_of_queues(["resize"], ["resize"], set())
    assert line == (
        "labourer 'resize' has no code here, its tasks wait: name its module in `imports`, "
        "or its class in sosw.labourers.resize.worker"
    )


def test_a_labourer_with_code_and_no_entry_is_named() -> None:
    """Nothing is handed out to it: what is missing is its entry, not another queue."""
    (line,) = problems_of_queues(["crop"], ["resize"], {"resize", "crop"})
    assert line == "labourer 'crop' has code here and is not configured: expected sosw.labourers.crop"
