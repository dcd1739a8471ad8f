"""Spares a client of DynamoDB what botocore does anew for each request though it comes out the same.

All requests go to one URL, and many a write takes botocore longer to send than DynamoDB to make. These are places
inside botocore: where one is gone, botocore does as it always did.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from sosw_celery.stores.dynamodb.fast.http_pool import POOLS
from sosw_celery.stores.dynamodb.fast.parser import ItemParserFactory
from sosw_celery.stores.dynamodb.fast.serializer import ItemSerializer

__all__ = ["shorten"]

#: URLs that are remembered: that of the service, and those of accounts of their own.
URLS = 8


def shorten(client: Any, *, endpoint_is_given: bool) -> None:
    """Have the client go the shorter way from now on; no other client of the session does.

    Parameters:
        client: One that does not check parameters.
        endpoint_is_given: Its endpoint is what somebody configured, and not for botocore's rules to find.
    """
    endpoint = client._endpoint
    # Not by the session, where botocore has a place for it: that one is the user's, and other clients come from it.
    endpoint._response_parser_factory = ItemParserFactory()
    if hasattr(client, "_serializer"):
        client._serializer = ItemSerializer(client._serializer)
    session = getattr(endpoint, "http_session", None)
    manager: Any = getattr(session, "_manager", None)
    if hasattr(manager, "pool_classes_by_scheme"):  # that of connections without a proxy
        manager.pool_classes_by_scheme = POOLS
    for owner, name in _functions_of_url(session):
        setattr(owner, name, functools.lru_cache(URLS)(getattr(owner, name)))
    if endpoint_is_given:
        client._ruleset_resolver = None  # then botocore takes the endpoint as it stands


def _functions_of_url(session: Any) -> Iterator[tuple[Any, str]]:
    """Yield those of a session whose answer follows from the URL of the request: its proxy, its pool of connections."""
    places = {
        "proxy_url_for": getattr(session, "_proxy_config", None),
        "connection_from_url": getattr(session, "_manager", None),
        "_setup_ssl_cert": session,
        "_get_request_target": session,
    }
    return ((owner, name) for name, owner in places.items() if hasattr(owner, name))
