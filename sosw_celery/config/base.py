"""What the sections of the settings have in common: the class of all of them, and kinds of values that several have."""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict

from sosw_celery.core.http_address import http_address

__all__ = ["HttpAddress", "Section", "ZoneName", "place_of_class"]


class Section(BaseModel):
    """A section of the settings: a value that does not change, and has no keys but those that it states."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError; a directory's name an OSError
        raise ValueError("the name of a time zone, as Europe/Amsterdam") from None
    return name


#: A time zone that this machine knows.
ZoneName = Annotated[str, AfterValidator(_zone)]

#: Where an engine other than AWS's own is reached.
HttpAddress = Annotated[str, AfterValidator(http_address)]


def place_of_class(example: str) -> AfterValidator:
    """Return the check of a text that says where a class stands, as the example does."""

    def checked(value: str) -> str:
        if not re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", value):
            raise ValueError(f"a module and a class in it, as {example}")
        return value

    return AfterValidator(checked)
