"""The consumer of a worker node of ours: no message ends it, and it says whose messages come in that are not for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sosw_celery.celery_fixes.consumer import SturdyConsumer
from sosw_celery.core.celery_message import SYSTEM_HEADER
from sosw_celery.text import excerpt
from sosw_celery.wiring.container import settings_of

__all__ = ["NodeConsumer"]

logger = logging.getLogger(__name__)

#: Other systems that are told of; more would be somebody's game.
MOST_SYSTEMS = 20


class NodeConsumer(SturdyConsumer):
    """Takes messages of this system, and warns once of each other one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known_systems: set[str] = set()

    def note_headers(self, headers: Mapping[str, Any]) -> None:
        """Warn once of each other system whose messages come in here: this one takes what is not for it."""
        system = headers.get(SYSTEM_HEADER)
        if system is None or system in self._known_systems or len(self._known_systems) > MOST_SYSTEMS:
            return
        self._known_systems.add(system)
        own = settings_of(self.app).system
        if system != own:
            logger.warning(
                "messages of another system come in: those of %s, and this is %s; give each a redis_prefix of its own, "
                "or a broker",
                excerpt(system),
                excerpt(own),
            )
