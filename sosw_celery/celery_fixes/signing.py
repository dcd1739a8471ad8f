"""Signed messages: with `task_serializer = "auth"` in `celeryconfig.py`, whoever has no key can send nothing.

Celery signs the body of each message with the private key of its sender (RSA, from the extra `signing`) and checks it
against the certificates of those whom the configuration trusts. The headers of a message are not signed: what they can
change does no harm here, see docs/security.md.

Celery 5.7 sets it up only where `app.setup_security()` is called, and says what is wrong with a key in errors that may
hold parts of it. Delete it when the settings alone do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.exceptions import ImproperlyConfigured, SecurityError

from sosw_celery.errors import ConfigError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["AUTH", "sign_messages"]

AUTH = "auth"
#: Where an app notes that its messages are signed.
_ATTRIBUTE = "_sosw_signs"

#: Messages that are refused unless signed: tasks and remote control, results, events.
SERIALIZERS = ("result_serializer", "event_serializer")


def sign_messages(app: Celery) -> None:
    """Have every message of the app signed, and unsigned ones refused, if the configuration asks for it. Idempotent.

    Raises:
        ConfigError: It does so by halves, a key or certificate cannot be read, or `cryptography` is missing.
    """
    if app.conf.get("task_serializer") != AUTH or vars(app).get(_ATTRIBUTE):
        return
    if list(app.conf.accept_content) != [AUTH]:
        raise ConfigError("accept_content", app.conf.accept_content, "['auth'], since task_serializer is 'auth'")
    for key in SERIALIZERS:
        if app.conf.get(key) != AUTH:
            raise ConfigError(key, app.conf.get(key), "'auth', since task_serializer is 'auth'")
    try:
        app.setup_security()
    except (ImproperlyConfigured, OSError, ValueError, TypeError) as problem:
        reason = " ".join(str(problem).split())
        expected = f"security_key, security_certificate and security_cert_store that can be used ({reason})"
        raise ConfigError("task_serializer", AUTH, expected) from problem
    except SecurityError as problem:  # wraps what cryptography raises, which is not shown: it may hold parts of a key
        expected = f"a key and certificates that can be used ({type(problem).__name__})"
        raise ConfigError("task_serializer", AUTH, expected) from None
    setattr(app, _ATTRIBUTE, True)
