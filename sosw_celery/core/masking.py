"""Secrets out of what is shown: passwords in addresses, and values whose name says that they are secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MASK", "masked"]

MASK = "***"

#: Names of settings whose values nobody should see; a webhook's address is its password.
SECRET_NAME = re.compile(
    r"secret|password|passwd|passphrase|token|credential|private_?key|api_?key|access_?key|authori[sz]ation|webhook",
    re.IGNORECASE,
)

#: What stands between the scheme and the host of an address: `user:password@`, `:password@`, or a token alone. A
#: password may hold whatever its owner forgot to quote, up to the next address of a list; rather too much is masked.
_USER_INFO = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?:(?P<user>[^/@:\s;,]*):(?P<password>(?:(?![;,][A-Za-z0-9+.-]+://)\S)*)|[^/@:\s;,]+)@"
)

_PARAMETER = re.compile(r"(?P<name>[?&;][^=&;?\s]+=)(?P<value>[^&;\s]*)")


def masked(value: Any, name: str = "") -> Any:
    """Return a value as it can be shown, dict by dict and item by item; what is no secret stays as it is.

    Parameters:
        name: How the value is called; the last word of its path.
    """
    is_secret = SECRET_NAME.search(name)
    if isinstance(value, Mapping):
        return {key: masked(inner, name if is_secret else str(key)) for key, inner in value.items()}
    if value and is_secret:
        return MASK
    if isinstance(value, (list, tuple)):
        return type(value)([masked(inner, name) for inner in value]) if type(value) in (list, tuple) else value
    return _masked_text(value) if isinstance(value, str) else value


def _masked_text(text: str) -> str:
    if "://" not in text:
        return text
    return _PARAMETER.sub(_parameter, _USER_INFO.sub(_user_info, text))


def _user_info(found: re.Match[str]) -> str:
    if found["user"] is None:
        return f"{found['scheme']}{MASK}@"
    return f"{found['scheme']}{found['user']}:{MASK if found['password'] else ''}@"


def _parameter(found: re.Match[str]) -> str:
    return f"{found['name']}{MASK}" if SECRET_NAME.search(found["name"]) and found["value"] else found[0]
