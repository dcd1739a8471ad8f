"""From the event that somebody submits to a job: unwrapped, checked, and with the bare name of its labourer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from sosw_celery.core.jobs.payload import check_json, parse_json
from sosw_celery.errors import InvalidJob
from sosw_celery.text import did_you_mean, excerpt

__all__ = ["check_labourer", "extract_job", "labourer_name_from"]

#: Either of these names the labourer of a job.
NAME_KEYS = ("lambda_name", "labourer_id")

#: A function of AWS Lambda by ARN, by a part of it (ACCOUNT:function:NAME), or by name, with a version or alias or not.
FUNCTION = re.compile(
    r"""(?: (?: arn:[^:]+:lambda:[^:]*: )? [0-9]*:function: )?
        (?P<name> [^:\s]+ )
        (?: : [^:\s]+ )?""",
    re.VERBOSE,
)


def extract_job(event: Any) -> dict[str, Any]:
    """Return the job of an event as a new dict whose `lambda_name` is the bare name of its labourer.

    An event is the job as a dict or as JSON text, or a wrapper around one of these, `{"job": ...}`. Only an event that
    does not name a labourer itself is a wrapper: in one that does, `job` is an attribute like any other. `labourer_id`
    may stand for `lambda_name`; it is kept beside it only when the two differ (`chunk_job` decides about that).

    Raises:
        InvalidJob: Neither of these, no name, a wrapper that would lose what stands beside its job, or anything in the
            job that JSON cannot say.
    """
    job = _unwrap(_read(event, "job"))
    check_json(job)
    names = {key: labourer_name_from(job[key], f"job.{key}") for key in NAME_KEYS if key in job}
    if not names:
        raise InvalidJob("job.lambda_name", "expected the name of a labourer, found none", excerpt(job))
    attributes = {key: value for key, value in job.items() if key not in NAME_KEYS}
    named = {"lambda_name": names.get("lambda_name", names.get("labourer_id")), **names}
    if named["lambda_name"] == named.get("labourer_id"):
        del named["labourer_id"]
    return {**named, **attributes}


def labourer_name_from(text: Any, path: str = "job.lambda_name") -> str:
    """Return the name of the labourer that a name or an ARN says, without account, region, version or alias.

    Raises:
        InvalidJob: Not a text, empty, or the ARN of something else than a function.
    """
    match = FUNCTION.fullmatch(text) if isinstance(text, str) else None
    if match is None or match["name"] == "arn":
        raise InvalidJob(path, "expected the name of a labourer or the ARN of a function", excerpt(text))
    return match["name"]


def check_labourer(name: str, known: Collection[str]) -> None:
    """Make sure that a labourer is registered.

    Raises:
        InvalidJob: It is not; suggests the name that may have been meant.
    """
    if name not in known:
        raise InvalidJob(
            "job.lambda_name", f"expected a labourer of the configuration{did_you_mean(name, known)}", excerpt(name)
        )


def _read(event: Any, path: str) -> dict[str, Any]:
    """Return the dict that an event or the content of its wrapper is, parsed where it is JSON text."""
    found = parse_json(event, path) if isinstance(event, (str, bytes, bytearray)) else event
    if not isinstance(found, Mapping):
        raise InvalidJob(path, "expected a job: a dict, or the JSON text of one", excerpt(found))
    return dict(found)


def _unwrap(event: dict[str, Any]) -> dict[str, Any]:
    if "job" not in event:
        return event
    content = event["job"]
    if _names_labourer(event):
        if isinstance(content, dict) and not _names_labourer(content):
            # A job that lost its name to its wrapper looks exactly like this, so it is not taken for an attribute.
            raise InvalidJob("job.job", "expected lambda_name inside the job, found it beside it", excerpt(content))
        return event
    beside = [key for key in event if key != "job"]
    if beside:
        raise InvalidJob(f"job.{beside[0]}", "expected this inside the job, found it beside it", excerpt(event))
    return _read(content, "job.job")


def _names_labourer(event: Mapping[str, Any]) -> bool:
    return any(key in event for key in NAME_KEYS)
