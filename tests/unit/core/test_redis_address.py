"""The address of the slots' Redis: Celery's spellings are understood, and what is none is told before it is used."""

from __future__ import annotations

import pytest

from sosw_celery.config.settings import load_settings
from sosw_celery.core.redis_address import redis_address
from sosw_celery.errors import ConfigError


@pytest.mark.parametrize(
    ("stated", "asked"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://", "redis://"),
        ("redis://:a%2Fb@h:1/2?health_check_interval=5", "redis://:a%2Fb@h:1/2?health_check_interval=5"),
        ("REDIS://[::1]:6379/3", "redis://[::1]:6379/3"),
        ("rediss://h:1/0?ssl_cert_reqs=CERT_REQUIRED", "rediss://h:1/0?ssl_cert_reqs=required"),
        ("rediss://h:1/0?ssl_cert_reqs=CERT_NONE", "rediss://h:1/0?ssl_cert_reqs=none"),
        ("rediss://h?ssl_cert_reqs=optional&ssl_ca_certs=/a/b", "rediss://h?ssl_cert_reqs=optional&ssl_ca_certs=/a/b"),
        ("unix:///run/r.sock?db=1", "unix:///run/r.sock?db=1"),
        ("redis+socket:///run/r.sock", "unix:///run/r.sock"),
        ("redis+socket://u:p@/run/r.sock?virtual_host=2", "unix://u:p@/run/r.sock?db=2"),
        ("redis+socket:///run/r.sock?virtual_host=/2", "unix:///run/r.sock?db=2"),
    ],
)
def test_spellings_of_redis_py_and_of_celery_are_understood(stated: str, asked: str) -> None:
    """One text may be `broker_url` and `redis_url`, and its answer is redis-py's own spelling."""
    assert redis_address(stated) == asked
    assert load_settings({"redis_url": stated}).redis_url == asked


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("", "an address with its scheme, as redis://HOST:6379/0, got ''"),
        ("localhost:6379", "an address with its scheme, as redis://HOST:6379/0, got 'localhost:6379'"),
        ("user:canary@h:6379", "an address with its scheme, as redis://HOST:6379/0, got '***@h:6379'"),
        ("sentinel://a:26379/0", "Sentinel is not supported for the slots"),
        ("redis+sentinel://a:26379/0", "Sentinel is not supported for the slots"),
        ("amqp://h", "an address that begins with redis://, rediss:// or unix://"),
        ("redis://h:6379/0\n", "without blanks around it"),
        ("redis://h:port/0", "a port of digits"),
        ("redis://h:65536/0", "a port of digits"),
        ("redis://h:0/0", "a port of digits"),
        ("redis://:can/ary@h:6379/0", "percent-encoded, got 'redis://:***@h:6379/0'"),
        ("redis://:can#ary@h:6379/0", "percent-encoded, got 'redis://:***@h:6379/0'"),
        ("redis://h/slots", "the number of a database behind the last '/'"),
        ("redis://h/\u00b2", "the number of a database behind the last '/'"),
        ("redis://h/0?db=slots", "the number of a database as db"),
        ("redis://h/0?db=", "the number of a database as db"),
        ("redis://h/0?ssl_cert_reqs=none", "redis-py takes"),
        ("redis://h/0?timeout=5", "unexpected keyword argument 'timeout'"),
        ("redis://h/0?socket_timeout=soon", "Invalid value for 'socket_timeout'"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "Invalid SSL Certificate Requirements Flag: maybe"),
        ("redis+socket://", "the absolute path of a socket"),
        ("unix://h/run/r.sock", "the absolute path of a socket"),
    ],
)
def test_what_is_no_address_is_told_at_start(stated: str, told: str) -> None:
    """In one line, with what is expected and without a password; nothing is asked for that."""
    with pytest.raises(ConfigError) as caught:
        load_settings({"redis_url": stated})
    assert caught.value.key == "sosw.redis_url"
    assert told in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)
