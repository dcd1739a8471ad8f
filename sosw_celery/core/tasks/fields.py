"""The fields of a task's row: which types ours have, and what a configuration may say about the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["ALWAYS_SET", "FIELD_TYPES", "TYPES", "our_names", "wrong_types"]

#: DynamoDB types that a field may have.
TYPES = ("S", "N", "B", "BOOL", "M", "L", "SS", "NS", "BS", "NULL")

#: Our fields and their types, which cannot be chosen: keys, orders and counters stand on them.
FIELD_TYPES: Mapping[str, str] = {
    "task_id": "S",
    "labourer_id": "S",
    "job_id": "S",
    "arn": "S",
    "payload": "S",
    "labourer_id_task_status": "S",
    "created_at": "N",
    "greenfield": "N",
    "attempts": "N",
    "failed_attempts": "N",
    "completed_at": "N",
    "closed_at": "N",
    "desired_launch_time": "N",
}

#: Our fields that every new row has. `arn` is the one more that a new row can have: where its labourer states one.
ALWAYS_SET = ("task_id", "labourer_id", "job_id", "created_at", "greenfield", "attempts", "payload")


def our_names(names: Iterable[str], field_names: Mapping[str, str]) -> list[str]:
    """Return each name as we call the field; sosw's configuration speaks of fields by their names in the tables."""
    ours = {theirs: name for name, theirs in field_names.items()}
    return [ours.get(name, name) for name in names]


def wrong_types(row_mapper: Mapping[str, str], field_names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each field whose stated type cannot be, with what is expected, as phrases for an error."""
    found = []
    for (stated, kind), name in zip(row_mapper.items(), our_names(row_mapper, field_names), strict=True):
        if kind not in TYPES:
            found.append((stated, f"a type of DynamoDB, one of {', '.join(TYPES)}"))
        elif FIELD_TYPES.get(name, kind) != kind:
            found.append((stated, f"{FIELD_TYPES[name]!r}, the type that this field has"))
    return found
