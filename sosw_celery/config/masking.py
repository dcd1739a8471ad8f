"""Secrets out of what is shown: passwords in addresses, and values whose name says that they are secret."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["MASK", "masked", "secrets_in"]

MASK = "***"
#: A secret shorter than this is no secret, and may stand in any text.
SHORTEST = 5

#: Names of settings whose values nobody should see; a webhook's address is its password.
SECRET_NAME = re.compile(
    r"secret|password|passwd|passphrase|token|credential|private_?key|api_?key|access_?key|authori[sz]ation|webhook",
    re.IGNORECASE,
)

#: Names of settings whose values are addresses, also where somebody forgot the scheme.
ADDRESS_NAME = re.compile(r"(_url|_endpoint)$", re.IGNORECASE)

#: What stands between the scheme and the host of an address: `user:password@`, `:password@`, or a token alone. A
#: password may hold whatever its owner forgot to quote, up to the next address of a list; rather too much is masked.
_USER_INFO = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?:(?P<user>[^/@:\s;,]*):(?P<password>(?:(?![;,][A-Za-z0-9+.-]+://)\S)*)|[^/@:\s;,]+)@"
)

_PARAMETER = re.compile(r"(?P<name>[?&;][^=&;?\s]+=)(?P<value>[^&;\s]*)")


def masked(value: Any, name: str = "", copies_of: Collection[str] = ()) -> Any:
    """Return a value as it can be shown, dict by dict and item by item; what is no secret stays as it is.

    Parameters:
        name: How the value is called; the last word of its path.
        copies_of: Secrets to mask wherever they stand, see `secrets_in`.
    """
    is_secret = SECRET_NAME.search(name)
    if isinstance(value, Mapping):
        return {key: masked(inner, name if is_secret else str(key), copies_of) for key, inner in value.items()}
    if value and is_secret:
        return MASK
    if isinstance(value, (list, tuple)):
        return (
            type(value)([masked(inner, name, copies_of) for inner in value]) if type(value) in (list, tuple) else value
        )
    if isinstance(value, str) and ADDRESS_NAME.search(name) and "://" not in value and "@" in value:
        return f"{MASK}@{value.rpartition('@')[2]}"
    return _masked_text(value, copies_of) if isinstance(value, str) else value


def secrets_in(value: Any, name: str = "") -> Iterator[str]:
    """Yield the texts in a value whose name says that they are secret: a module may hold them by another name too."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from secrets_in(inner, name if SECRET_NAME.search(name) else str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from secrets_in(inner, name)
    elif isinstance(value, str) and len(value) >= SHORTEST and SECRET_NAME.search(name):
        yield value


def _masked_text(text: str, copies_of: Collection[str]) -> str:
    for secret in sorted(copies_of, key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, MASK)
    if "://" not in text:
        return text
    return _PARAMETER.sub(_parameter, _USER_INFO.sub(_user_info, text))


def _user_info(found: re.Match[str]) -> str:
    if found["user"] is None:
        return f"{found['scheme']}{MASK}@"
    return f"{found['scheme']}{found['user']}:{MASK if found['password'] else ''}@"


def _parameter(found: re.Match[str]) -> str:
    return f"{found['name']}{MASK}" if SECRET_NAME.search(found["name"]) and found["value"] else found[0]
