"""What the sections of the settings have in common: the class of all of them, and kinds of values that several have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

from sosw_celery.core.http_address import http_address

__all__ = ["HttpAddress", "Section", "ZoneName", "place_of_class"]

#: Types whose values True and False pass for.
NUMBERS = frozenset({int, float})


class Section(BaseModel):
    """A section of the settings: a value that does not change, and has no keys but those that it states."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse True and False where a number is expected: Python and pydantic take them for 1 and 0."""
        kinds = set(_kinds_in(cls.model_fields[str(info.field_name)].annotation))
        if isinstance(value, bool) and kinds & NUMBERS and bool not in kinds:
            raise ValueError("a number")
        return value


def _kinds_in(annotation: Any) -> Iterator[Any]:
    """Yield the types that a field may be of; of containers none."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _kinds_in(argument)
    else:
        yield annotation


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
