"""The address of a Redis: in the spelling of redis-py or of Celery, given back in that of redis-py.

redis://[[USER]:PASSWORD@][HOST][:PORT][/DB]       rediss://... with TLS
unix://[[USER]:PASSWORD@]/PATH[?db=DB]           Celery: redis+socket://...?virtual_host=DB
?ssl_cert_reqs=required|optional|none            Celery: CERT_REQUIRED, CERT_OPTIONAL, CERT_NONE
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

__all__ = ["redis_address"]

EXAMPLE = "redis://HOST:6379/0"
NO_SENTINEL = (
    "the address of one Redis, as redis://HOST:6379/0: Sentinel is not supported for the slots, name the primary or a "
    "proxy that follows it"
)
#: Where a password ends is not to be seen if it holds one of these as it is.
QUOTED = "an address with a port of digits, and with '/', '?', '#' and '@' of its password percent-encoded"


def redis_address(text: str) -> str:
    """Return the address as redis-py takes it.

    Raises:
        ValueError: It is none; says what is expected, without the address, which may hold a password.
    """
    if text != text.strip() or not text.isprintable():
        raise ValueError(f"an address as {EXAMPLE}, without blanks around it")
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError(f"an address with its scheme, as {EXAMPLE}")
    scheme = scheme.lower()
    if "sentinel" in scheme:
        raise ValueError(NO_SENTINEL)
    url = urlsplit(f"{scheme}://{rest}")
    if scheme in ("redis", "rediss"):
        return _over_network(url)
    if scheme in ("unix", "redis+socket"):
        return _over_socket(url)
    raise ValueError(f"an address that begins with redis://, rediss:// or unix://, as {EXAMPLE}")


def _over_network(url: SplitResult) -> str:
    try:
        port = url.port
    except ValueError:
        raise ValueError(QUOTED) from None
    if port == 0 or url.fragment:
        raise ValueError(QUOTED)
    database = url.path.strip("/")
    if database and not _is_number(database):
        raise ValueError("the number of a database behind the last '/', as /0")
    return _joined(url.scheme, url)


def _over_socket(url: SplitResult) -> str:
    if len(url.path) < 2 or url.hostname:
        raise ValueError("the absolute path of a socket, as unix:///run/redis.sock?db=0")
    return _joined("unix", url)


def _joined(scheme: str, url: SplitResult) -> str:
    options = _options(url.query)
    return f"{scheme}://{url.netloc}{url.path}" + (f"?{options}" if options else "")


def _options(query: str) -> str:
    """Return the options in redis-py's spelling."""
    options = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "ssl_cert_reqs":
            value = value.lower().removeprefix("cert_")
        if name in ("virtual_host", "db"):
            name, value = "db", value.strip("/")
            if not _is_number(value):
                raise ValueError(f"the number of a database as {name}")
        options[name] = value
    return urlencode(options, safe="/:,")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
