"""How a task reads in DynamoDB: rows and the requests that move a task on, built by pure functions.

Every write about a running task is fenced by the number of its attempt; every request carries its condition, so that
whoever comes second is refused. Numbers travel as exact decimals.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sosw_celery.core.exact import EXACT
from sosw_celery.core.jobs.plan import LONGEST_JOB_ID
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.core.tasks.storable import sayable
from sosw_celery.errors import InvalidJob, ItemCorrupt
from sosw_celery.stores.dynamodb.attributes import Item, number, stored_as, typed_attribute, value_of
from sosw_celery.stores.dynamodb.item_size import MOST_BYTES, fitted, size_of
from sosw_celery.stores.dynamodb.tables import Tables
from sosw_celery.text import cut_to_bytes

__all__ = [
    "archive_row",
    "bare_row",
    "claim_request",
    "close_request",
    "closed_query",
    "corrupt_row",
    "delete_running",
    "delete_waiting",
    "fitted_retry_row",
    "from_item",
    "insert_request",
    "insert_statement",
    "job_of",
    "new_item",
    "queue_query",
    "retry_row",
    "running_query",
    "status_key",
    "to_item",
]

_TEXTS = ("task_id", "labourer_id", "job_id", "arn", "payload")
_NUMBERS = ("greenfield", "created_at", "completed_at", "closed_at", "desired_launch_time")
_COUNTS = ("attempts", "failed_attempts")

#: Attempts beyond this were not made by anybody.
LARGEST_COUNT = 10**9

#: Times and places in a queue beyond this are not kept beside the slots; nobody of ours writes them.
LARGEST_TIME = Decimal(4 * 10**15)

#: Bytes that are kept of the reason why a row was set aside.
LONGEST_REASON = 2048

#: Field of a claimed row: who claimed it, unique for each claim.
CLAIMED_BY = "claimed_by"

#: Below any number of a queue, also of rows that somebody changed by hand.
LOWEST = Decimal(-(10**38 - 1))
#: Stats and results that one write sets as attributes of their own, since DynamoDB limits the length of its expression,
#: and bytes of their names. All others are kept together, in the map `MORE`.
MOST_ATTRIBUTES, LONGEST_NAME = 200, 255
#: What a statement of PartiQL sets at most here (it takes 8192 characters), and names that stand in one as they are.
MOST_IN_STATEMENT, PLAIN_NAME = 40, re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
#: As DynamoDB names tables.
TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
#: Takes names that were checked, and no value: those are parameters.
UPDATE = 'UPDATE "{table}" SET {sets} WHERE {where} {tail}'
INSERT = """INSERT INTO "{table}" VALUE {{{values}}}"""
MORE = "result_more"


def to_item(task: Task, tables: Tables) -> Item:
    """Return the row of a task. Empty fields are left out."""
    f = tables.field
    item: Item = {f(name): {"S": value} for name in _TEXTS if (value := getattr(task, name))}
    item |= {f(name): number(value) for name in _NUMBERS if (value := getattr(task, name)) is not None}
    item[f("attempts")] = number(task.attempts)
    if task.failed_attempts:
        item[f("failed_attempts")] = number(task.failed_attempts)
    for name, value in task.extra.items():
        item[sayable(name)] = stored_as(value, tables.row_mapper.get(name))
    return item


def new_item(task: Task, tables: Tables) -> Item:
    """Return the row of a task that is new.

    Raises:
        InvalidJob: It lacks one of the `required_fields`.
    """
    item = to_item(task, tables)
    for name in tables.required_fields:
        if name not in item:
            raise InvalidJob(f"task.{name}", f"required_fields asks for it, and task {task.task_id} has none")
    return item


def from_item(item: Mapping[str, Any], tables: Tables) -> Task:
    """Return the task of a row.

    Raises:
        ItemCorrupt: A field is missing or of another type; names the row.
    """
    own = _readers(tuple(tables.field_names.items()))
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    try:
        for field, attribute in item.items():
            if reader := own.get(field):
                name, kind, read = reader
                values[name] = read(attribute[kind])
            else:
                extra[field] = value_of(attribute)
        if not _can_be_job(values.get("job_id", "")):
            # Of no job of ours, so nothing is counted for it; the field stays on the row as it is.
            extra[tables.field("job_id")] = values.pop("job_id")
        return Task(**values, extra=extra)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        name = item.get(tables.field("task_id"), {}).get("S", "?")
        raise ItemCorrupt("dynamodb", f"reading the row of task {name}: {error!r}") from error


@functools.lru_cache
def _readers(renamed: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, str, Callable[[str], Any]]]:
    """Return, by the names in the tables, our name, the type and the reader of each field that is not an extra one."""
    kinds: list[tuple[tuple[str, ...], str, Callable[[str], Any]]] = [
        (_TEXTS, "S", str),
        (_NUMBERS, "N", _time),
        (_COUNTS, "N", _count),
    ]
    fields = dict(renamed)
    return {fields.get(name, name): (name, kind, read) for names, kind, read in kinds for name in names}


def _can_be_job(job_id: str) -> bool:
    return len(job_id) <= LONGEST_JOB_ID and "#" not in job_id


def _time(text: str) -> Decimal:
    value = EXACT.create_decimal(text)
    if not value.copy_abs() <= LARGEST_TIME:  # nor is NaN
        raise ValueError(f"expected seconds or a place in a queue, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= LARGEST_COUNT:
        raise ValueError(f"expected a count of at most {LARGEST_COUNT}, got {text}")
    return value


def queue_query(labourer_id: str, start: Decimal | None, end: Decimal, limit: int, tables: Tables) -> Item:
    """Return the query for the head of a labourer's queue: at most `limit` rows from `start` to `end`, oldest first."""
    return _greenfield_query(labourer_id, "#g BETWEEN :start AND :end", tables) | {
        "ExpressionAttributeValues": {
            ":l": {"S": labourer_id},
            ":start": number(start if start is not None else LOWEST),
            ":end": number(end),
        },
        "Limit": limit,
    }


def running_query(labourer_id: str, end: Decimal, tables: Tables) -> Item:
    """Return the query for a labourer's claimed tasks (running, or completed and not yet archived), oldest first."""
    return _greenfield_query(labourer_id, "#g > :end", tables) | {
        "ExpressionAttributeValues": {":l": {"S": labourer_id}, ":end": number(end)},
    }


def closed_query(labourer_id: str, status: int, since: Decimal, tables: Tables) -> Item:
    """Return the query for a labourer's closed tasks, 1 completed or 0 dead, by the time at which they were closed."""
    return {
        "TableName": tables.closed,
        "IndexName": tables.closed_index,
        "KeyConditionExpression": "#s = :s AND #t >= :t",
        "ExpressionAttributeNames": {
            "#s": tables.field("labourer_id_task_status"),
            "#t": tables.field("closed_at"),
        },
        "ExpressionAttributeValues": {":s": {"S": status_key(labourer_id, status)}, ":t": number(since)},
    }


def _greenfield_query(labourer_id: str, condition: str, tables: Tables) -> Item:
    return {
        "TableName": tables.tasks,
        "IndexName": tables.greenfield_index,
        "KeyConditionExpression": f"#l = :l AND {condition}",
        "ExpressionAttributeNames": {"#l": tables.field("labourer_id"), "#g": tables.field("greenfield")},
    }


def claim_request(attempt: Attempt, claimer: str, greenfield: Decimal, end: Decimal, tables: Tables) -> Item:
    """Return the write queued -> invoked that makes a task the attempt's own and answers with the whole row.

    Refused unless the task is queued, of this labourer, and this is its next attempt: so a stale or doubled message
    costs one refused write. The refusal brings the row, in which `claimed_by` tells whether it was oneself whose first
    answer was lost.
    """
    f = tables.field
    return {
        "TableName": tables.tasks,
        "Key": {f("task_id"): {"S": attempt.task_id}},
        "UpdateExpression": "SET #g = :claimed, #a = :this, #by = :claimer",
        "ConditionExpression": (
            "#l = :l AND #g <= :end AND attribute_not_exists(#c) AND (attribute_not_exists(#a) OR #a = :before)"
        ),
        "ExpressionAttributeNames": {
            "#l": f("labourer_id"),
            "#g": f("greenfield"),
            "#a": f("attempts"),
            "#c": f("completed_at"),
            "#by": CLAIMED_BY,
        },
        "ExpressionAttributeValues": {
            ":l": {"S": attempt.labourer_id},
            ":claimer": {"S": claimer},
            ":claimed": number(greenfield),
            ":end": number(end),
            ":this": number(attempt.number),
            ":before": number(attempt.number - 1),
        },
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def close_request(attempt: Attempt, now: Decimal, end: Decimal, outcome: Mapping[str, Any], tables: Tables) -> Item:
    """Return the write that completes an attempt with its stats and results.

    Parameters:
        outcome: Attributes to set, by their names in the table: `stat_*`, `result_*`.
    """
    fence = _fence(attempt, end, tables)
    names = fence["ExpressionAttributeNames"]
    values = fence["ExpressionAttributeValues"] | {":now": number(now)}
    assignments = ["#c = :now"]
    for index, (name, value) in enumerate(fitting(outcome).items()):
        names[f"#o{index}"] = name
        values[f":o{index}"] = typed_attribute(value, tables.row_mapper.get(name))
        assignments.append(f"#o{index} = :o{index}")
    return {
        "TableName": tables.tasks,
        "Key": {tables.field("task_id"): {"S": attempt.task_id}},
        "UpdateExpression": "SET " + ", ".join(assignments),
        "ConditionExpression": fence["ConditionExpression"],
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def claim_statement(attempt: Attempt, claimer: str, greenfield: Decimal, end: Decimal, tables: Tables) -> Item | None:
    """Return `claim_request` as a statement of PartiQL, for a batch; None if a name cannot stand in one.

    A row that was never attempted and says so by having no number is refused: `claim_request` takes it.
    """
    f = tables.field
    parameters = {
        f("greenfield"): number(greenfield),
        f("attempts"): number(attempt.number),
        CLAIMED_BY: {"S": claimer},
    }
    conditions = {
        (f("task_id"), "=?"): {"S": attempt.task_id},
        (f("labourer_id"), "=?"): {"S": attempt.labourer_id},
        (f("greenfield"), "<=?"): number(end),
        (f("attempts"), "=?"): number(attempt.number - 1),
        (f("completed_at"), " IS MISSING"): None,
    }
    return _update_statement(parameters, conditions, tables, "RETURNING ALL NEW *")


def close_statement(
    attempt: Attempt, now: Decimal, end: Decimal, outcome: Mapping[str, Any], tables: Tables
) -> Item | None:
    """Return `close_request` as a statement of PartiQL, for a batch; None if it would be too long, or a name unfit."""
    f = tables.field
    parameters = {f("completed_at"): number(now)}
    for name, value in fitting(outcome).items():
        parameters[name] = typed_attribute(value, tables.row_mapper.get(name))
    conditions = {
        (f("task_id"), "=?"): {"S": attempt.task_id},
        (f("attempts"), "=?"): number(attempt.number),
        (f("greenfield"), ">?"): number(end),
        (f("completed_at"), " IS MISSING"): None,
    }
    return _update_statement(parameters, conditions, tables)


def _update_statement(
    parameters: Mapping[str, Item],
    conditions: Mapping[tuple[str, str], Item | None],
    tables: Tables,
    tail: str = "",
) -> Item | None:
    """Return an update of one row.

    Parameters:
        conditions: By an attribute's name and what is asked of it: what stands for the question mark, if there is one.
    """
    text = _update_text(tables.tasks, tuple(parameters), tuple(conditions), tail)
    values = [*parameters.values(), *(value for value in conditions.values() if value is not None)]
    return None if text is None else {"Statement": text, "Parameters": values}


@functools.lru_cache(maxsize=1024)
def _update_text(table: str, names: tuple[str, ...], conditions: tuple[tuple[str, str], ...], tail: str) -> str | None:
    named = [*names, *(name for name, _ in conditions)]
    if len(names) > MOST_IN_STATEMENT or not all(map(PLAIN_NAME.fullmatch, named)) or not TABLE_NAME.fullmatch(table):
        return None
    sets = ", ".join(f'"{name}"=?' for name in names)
    where = " AND ".join(f'"{name}"{asked}' for name, asked in conditions)
    return UPDATE.format(table=table, sets=sets, where=where, tail=tail).rstrip()


def insert_request(item: Item, tables: Tables) -> Item:
    """Return the write of a new row, refused where one of its id stands already."""
    return {
        "TableName": tables.tasks,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(#id)",
        "ExpressionAttributeNames": {"#id": tables.field("task_id")},
    }


def insert_statement(item: Item, tables: Tables) -> Item | None:
    """Return `insert_request` as a statement of PartiQL, for a batch; None if a name cannot stand in one.

    A statement is refused as `DuplicateItem` where a row of its id stands.
    """
    text = _insert_text(tables.tasks, tuple(item))
    return None if text is None else {"Statement": text, "Parameters": list(item.values())}


@functools.lru_cache(maxsize=64)
def _insert_text(table: str, names: tuple[str, ...]) -> str | None:
    if len(names) > MOST_IN_STATEMENT or not all(map(PLAIN_NAME.fullmatch, names)) or not TABLE_NAME.fullmatch(table):
        return None
    return INSERT.format(table=table, values=", ".join(f"'{name}': ?" for name in names))


def fitting(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return stats and results as one write can set them: very many of them, or with very long names, in one map."""
    own: dict[str, Any] = {}
    more: dict[str, Any] = {}
    for name, value in outcome.items():
        stored = sayable(name)
        fits = len(own) < MOST_ATTRIBUTES and len(stored.encode()) <= LONGEST_NAME
        (own if fits else more)[stored] = value
    if more and MORE in own:
        more[MORE] = own.pop(MORE)
    return {**own, MORE: more} if more else own


def delete_running(attempt: Attempt, end: Decimal, tables: Tables) -> Item:
    """Return the delete of a running attempt's row, for a transaction that puts it elsewhere."""
    return {
        "TableName": tables.tasks,
        "Key": {tables.field("task_id"): {"S": attempt.task_id}},
        **_fence(attempt, end, tables),
    }


def delete_completed(task: Task, tables: Tables) -> Item:
    """Return the delete of a completed task's row, for the transaction that counts it."""
    return {
        "TableName": tables.tasks,
        "Key": {tables.field("task_id"): {"S": task.task_id}},
        "ConditionExpression": f"{_is_attempt(task.attempts)} AND attribute_exists(#c)",
        "ExpressionAttributeNames": {"#a": tables.field("attempts"), "#c": tables.field("completed_at")},
        "ExpressionAttributeValues": {":this": number(task.attempts)},
    }


def delete_waiting(task: Task, tables: Tables) -> Item:
    """Return the delete of the row of a task that waits for a retry, for a transaction that puts it elsewhere."""
    f = tables.field
    return {
        "TableName": tables.retry,
        "Key": {f("labourer_id"): {"S": task.labourer_id}, f("task_id"): {"S": task.task_id}},
        "ConditionExpression": f"{_is_attempt(task.attempts)} AND attribute_exists(#id)",
        "ExpressionAttributeNames": {"#a": f("attempts"), "#id": f("task_id")},
        "ExpressionAttributeValues": {":this": number(task.attempts)},
    }


def _is_attempt(number: int) -> str:
    """Return the condition that a row is of this attempt. One that somebody else wrote may say by no number that it was
    never attempted."""
    return "#a = :this" if number else "(#a = :this OR attribute_not_exists(#a))"


def _fence(attempt: Attempt, end: Decimal, tables: Tables) -> Item:
    """The condition "this attempt is the one that runs": its number is the row's, and nobody has closed it."""
    f = tables.field
    return {
        "ConditionExpression": f"{_is_attempt(attempt.number)} AND #g > :end AND attribute_not_exists(#c)",
        "ExpressionAttributeNames": {"#a": f("attempts"), "#g": f("greenfield"), "#c": f("completed_at")},
        "ExpressionAttributeValues": {":this": number(attempt.number), ":end": number(end)},
    }


def retry_row(task: Task, due: Decimal, error: str, outcome: Mapping[str, Any]) -> Task:
    """Return the row that waits in the retry table after a failed attempt."""
    return replace(
        task,
        desired_launch_time=due,
        failed_attempts=task.failed_attempts + 1,
        extra={**task.extra, **outcome, "last_error": error},
    )


def archive_row(task: Task, now: Decimal, *, status: int, tables: Tables) -> Item:
    """Return the row of the closed table: the task with `closed_at` and its status, 1 completed or 0 dead."""
    item = to_item(replace(task, closed_at=now), tables)
    item[tables.field("labourer_id_task_status")] = {"S": status_key(task.labourer_id, status)}
    return fitted_row(item, tables)


def corrupt_row(row: Mapping[str, Any], reason: str, now: Decimal, tables: Tables) -> Item:
    """Return the row of the closed table for one that cannot be read: dead, as it is as far as it fits, and why."""
    f = tables.field
    labourer_id = row[f("labourer_id")]["S"]
    dead = {
        **row,
        "last_error": {"S": cut_to_bytes(reason, LONGEST_REASON)},
        f("closed_at"): number(now),
        f("labourer_id_task_status"): {"S": status_key(labourer_id, 0)},
    }
    return fitted_row(dead, tables)


def fitted_row(row: Item, tables: Tables) -> Item:
    """Return a row of the closed table as it fits: without its largest results if need be, without its payload at last.

    Its ids, the reason of a death, and what the table's index needs stay.
    """
    needed = {*map(tables.field, ("task_id", "labourer_id", "closed_at", "labourer_id_task_status")), "last_error"}
    if job_of(row, tables):
        needed.add(tables.field("job_id"))
    fitting = fitted(row, keep={*needed, tables.field("payload")})
    return fitting if size_of(fitting) <= MOST_BYTES else fitted(row, keep=needed)


def bare_row(row: Item, tables: Tables) -> Item:
    """Return of a row of the closed table only what tells which task it was and how it ended: texts and numbers."""
    names = {
        *map(tables.field, ("task_id", "labourer_id", "created_at", "completed_at", "closed_at")),
        tables.field("labourer_id_task_status"),
        "last_error",
    }
    if job_of(row, tables):
        names.add(tables.field("job_id"))
    return {name: value for name, value in row.items() if name in names}


def fitted_retry_row(failed: Task, tables: Tables) -> Item | None:
    """Return the row of a task that waits for a retry, without the largest results of its attempts if need be.

    None where its own fields do not fit, and so it cannot wait.
    """
    row = to_item(failed, tables)
    own = {*map(tables.field, (*_TEXTS, *_NUMBERS, *_COUNTS)), CLAIMED_BY}
    # What failed attempts leave has half of the room: the other half is for the end of the next one.
    room = (MOST_BYTES + size_of({name: value for name, value in row.items() if name in own})) // 2
    fitting = fitted(row, keep=own, room=room)
    return fitting if size_of(fitting) <= MOST_BYTES else None


def job_of(row: Mapping[str, Any], tables: Tables) -> str:
    """Return the job of a row, whether it can be read or not; empty where there is none that could be ours."""
    job_id = row.get(tables.field("job_id"), {}).get("S", "")
    return job_id if _can_be_job(job_id) else ""


def status_key(labourer_id: str, status: int) -> str:
    """Return the hash key of the closed table's index: `LABOURER_1` completed, `LABOURER_0` dead."""
    return f"{labourer_id}_{status}"
