"""What a configuration of sosw means here: keys that stand elsewhere, keys under other names, keys without a meaning.

`translate` turns a section into one of our shape before it is checked. Nothing is guessed: a key that neither we nor
sosw know stays where it is, for the check to refuse it.

Source: the keys of sosw's DEFAULT_CONFIGs and of its examples.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sosw_celery.errors import ConfigError
from sosw_celery.text import did_you_mean

__all__ = [
    "BESIDE_TASKS",
    "OWN_PLACE",
    "ROOT",
    "TABLE",
    "TASKS",
    "Ignored",
    "Keys",
    "Moved",
    "Translation",
    "is_of_a_labourer",
    "merged",
    "names_known_at",
    "stands_at",
    "translate",
]

#: How the section is called in every dotted path.
ROOT = "sosw"

TASKS = "task_config"
TABLE = "dynamo_db_config"
LABOURERS = "labourers"

_CLIENTS = "clients are made when they are first used"
OWN_PLACE = "a labourer's own configuration belongs in the DEFAULT_CONFIG of its class"

#: Keys of sosw that have no meaning here, by the place where they stand, and why. A key that our settings know is
#: never ignored.
IGNORED: Mapping[str, Mapping[str, str]] = {
    "": {
        "init_clients": _CLIENTS,
        "default_simultaneous_invocations": "sosw does not read it either; see max_simultaneous_invocations",
        "lifetime_stats_params": "stats belong to one run each",
        "retry_tasks_limit": "every retry that is due is brought back",
        "sosw_worker_assistant_lambda": "the assistant is a Celery task with a queue of its own",
        "task_operational_overhead_for_ddb": "rows are written in batches, without a pause for each",
        "credentials": OWN_PLACE,
    },
    TASKS: {
        "init_clients": _CLIENTS,
        "greenfield_task_step": "a queue is ordered by the times at which its rows were written",
        "retry_tasks_limit": "every retry that is due is brought back",
    },
    f"{TASKS}.{TABLE}": {
        "dont_json_loads_results": "rows are read as they are",
        "hash_key": "the keys of the tables are known",
        "range_key": "the keys of the tables are known",
        "skip_glue": "AWS Glue is not asked",
    },
    LABOURERS: {
        "id": "the key of the entry is the id",
        **dict.fromkeys(
            ("start", "invoked", "expired", "health", "average_duration", "max_duration"),
            "sosw computes it, a stated value has no effect there either",
        ),
    },
}

#: A key that configures a client of sosw or of AWS by the name of that client.
CLIENT_CONFIG = re.compile(r"(lambda|s3|dynamo_client|dynamodb|siblings|cloudwatch|ssm|events|config)_config")

#: Tables of a labourer, in the notation of sosw's `get_ddbc`.
OWN_TABLES = re.compile(r".+_dynamo_db_config")

#: Sections that stand beside `task_config` here and inside it in sosw.
BESIDE_TASKS = ("ecology_config", "meta_handler_config", "sns_config")


@dataclass(frozen=True)
class Keys:
    """The keys that our settings know, by place."""

    section: Collection[str]
    task_config: Collection[str]
    dynamo_db_config: Collection[str]
    labourer: Collection[str]


@dataclass(frozen=True)
class Ignored:
    """A key that is accepted and has no effect. `key` is its dotted path, `reason` why."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Moved:
    """A key that counts at another place, both as dotted paths."""

    key: str
    target: str


@dataclass
class Translation:
    """A section in our shape, and what became of the keys that were not. `problems` are keys that cannot be placed."""

    original: Mapping[str, Any]
    section: dict[str, Any]
    moved: list[Moved] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    problems: list[ConfigError] = field(default_factory=list)

    def origin(self, path: str) -> str:
        """Return where the user wrote what now stands at a path."""
        if stands_at(self.original, path):
            return path
        for one in self.moved:
            if path == one.target or path.startswith(f"{one.target}."):
                return one.key + path[len(one.target) :]
        return path


def names_known_at(place: str) -> list[str]:
    """Return the keys of sosw that are accepted at a place (`""` is the section) besides those of our settings."""
    moved = {"": (*BESIDE_TASKS, TABLE), TASKS: (*BESIDE_TASKS, "max_attempts"), f"{TASKS}.{TABLE}": ("region_name",)}
    return [*IGNORED.get(place, {}), *moved.get(place, ())]


def translate(section: Mapping[str, Any], keys: Keys, *, is_whole: bool = True) -> Translation:
    """Return the section in our shape. The section itself is left as it is.

    Parameters:
        is_whole: False for a part: what it says about labourers that it does not name is left for the whole.
    """
    return _Translator(section, keys, is_whole).run()


def merged(first: Any, second: Any, path: str = ROOT) -> tuple[Any, list[ConfigError]]:
    """Return two configurations as one, dict by dict, and an error for each key whose values differ."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        together = dict(first)
        problems: list[ConfigError] = []
        for key, value in second.items():
            if key in together:
                together[key], more = merged(together[key], value, f"{path}.{key}")
                problems += more
            else:
                together[key] = value
        return together, problems
    if first == second:
        return first, []
    return first, [ConfigError(path, second, f"{first!r}, as another place says")]


def is_of_a_labourer(table: Mapping[str, Any]) -> bool:
    """Return whether a `dynamo_db_config` speaks of another table than that of tasks: its rows have no task_id."""
    row_mapper, names = table.get("row_mapper"), table.get("field_names")
    if not isinstance(row_mapper, Mapping) or not row_mapper:
        return False
    task_id = names.get("task_id", "task_id") if isinstance(names, Mapping) else "task_id"
    return task_id not in row_mapper


class _Translator:
    """One translation under way. `place` is a path inside the section, `""` for the section itself."""

    def __init__(self, section: Mapping[str, Any], keys: Keys, is_whole: bool) -> None:
        self._keys = keys
        self._is_whole = is_whole
        self._out = Translation(section, dict(section))
        for name in (LABOURERS, TASKS):
            self._copy(self._out.section, name)
        self._tasks: dict[str, Any] = self._child(self._out.section, TASKS)
        self._copy(self._tasks, TABLE)
        self._copy(self._tasks, LABOURERS)

    def run(self) -> Translation:
        self._gather_table()
        self._gather_tasks()
        self._unpack_tasks()
        self._unpack_table()
        self._drop("", self._out.section, self._keys.section)
        self._drop(TASKS, self._tasks, self._keys.task_config)
        self._drop_of_labourers()
        self._gather_labourers()
        self._name_period_methods()
        self._put_back()
        return self._out

    # ---- parts that were pasted as they are

    def _gather_table(self) -> None:
        """sosw's assistant has the tasks' table at its top level; and TASKS_TABLE_CONFIG may stand for itself."""
        pasted = self._out.section.get(TABLE)
        if isinstance(pasted, Mapping) and is_of_a_labourer(pasted):
            expected = f"the fields of tasks, task_id among them; {OWN_PLACE}"
            self._problem(f"{TABLE}.row_mapper", pasted["row_mapper"], expected)
            del self._out.section[TABLE]
        elif TABLE in self._out.section:
            self._move(self._out.section, TABLE, "", self._tasks, TASKS)
        known = set(self._keys.dynamo_db_config) - set(self._keys.section) - set(self._keys.task_config)
        for name in [name for name in self._out.section if name in known]:
            table = self._child(self._tasks, TABLE)
            self._move(self._out.section, name, "", table, f"{TASKS}.{TABLE}")

    def _gather_tasks(self) -> None:
        """TASK_CLIENT_CONFIG may stand for itself as well."""
        known = (set(self._keys.task_config) | set(IGNORED[TASKS])) - set(self._keys.section) - set(IGNORED[""])
        for name in [name for name in self._out.section if name in known]:
            self._move(self._out.section, name, "", self._tasks, TASKS)
        for name in [name for name in self._out.section if _attempts_of(name)]:
            self._move(self._out.section, name, "", self._tasks, TASKS)

    # ---- keys under other names

    def _unpack_tasks(self) -> None:
        """Have what sosw keeps in `task_config` and we keep in the section."""
        for name in ("max_attempts", "max_simultaneous_invocations", *BESIDE_TASKS):
            if name in self._tasks and name not in self._keys.task_config:
                self._move(self._tasks, name, TASKS, self._out.section, "")
        for name in [name for name in self._tasks if _attempts_of(name)]:
            self._give_attempts(name, _attempts_of(name))

    def _give_attempts(self, name: str, labourer_id: str) -> None:
        places = [at for at in (self._out.section, self._tasks) if labourer_id in _dict(at.get(LABOURERS))]
        if not places and not self._is_whole:
            return
        value = self._tasks.pop(name)
        path = f"{TASKS}.{name}"
        if not places:
            known = {*_dict(self._out.section.get(LABOURERS)), *_dict(self._tasks.get(LABOURERS))}
            hint = did_you_mean(labourer_id, map(str, known))
            self._problem(path, value, f"max_attempts_ and the name of a labourer of the configuration{hint}")
            return
        for at in places:
            own = dict(at[LABOURERS][labourer_id] or {})
            if own.get("max_attempts") is not None:
                self._ignore(path, value, "the labourer's own max_attempts holds")
                return
            at[LABOURERS] = {**at[LABOURERS], labourer_id: {**own, "max_attempts": value}}
        self._moved(path, f"{LABOURERS}.{labourer_id}.max_attempts")

    def _unpack_table(self) -> None:
        table = self._tasks.get(TABLE)
        if not isinstance(table, dict):
            return
        if "region_name" in table:
            self._move(table, "region_name", f"{TASKS}.{TABLE}", self._out.section, "", name_there="aws_region")
        self._drop(f"{TASKS}.{TABLE}", table, self._keys.dynamo_db_config)

    def _name_period_methods(self) -> None:
        """sosw lists patterns; the name of the method that answers to one comes from its text."""
        patterns = self._out.section.get("custom_period_patterns")
        if isinstance(patterns, (list, tuple)) and all(isinstance(pattern, str) for pattern in patterns):
            methods = {pattern: pattern.replace("[0-9]+", "x", 1) for pattern in patterns}
            self._out.section["custom_period_patterns"] = methods

    # ---- keys without a meaning

    def _drop(self, place: str, data: dict[str, Any], known: Collection[str]) -> None:
        for name in [name for name in data if name not in known]:
            reason = IGNORED[place].get(name) or _client_reason(name)
            if name in BESIDE_TASKS and not data[name]:
                reason = "it is empty"
            if reason:
                self._ignore(_join(place, name), data.pop(name), reason)

    def _drop_of_labourers(self) -> None:
        for at, place in ((self._out.section, LABOURERS), (self._tasks, f"{TASKS}.{LABOURERS}")):
            labourers = at.get(LABOURERS)
            if not isinstance(labourers, Mapping):
                continue
            at[LABOURERS] = {}
            for labourer_id, own in labourers.items():
                kept = {} if own is None else dict(own) if isinstance(own, Mapping) else own
                at[LABOURERS][labourer_id] = kept
                for name in [name for name in _dict(kept) if name not in self._keys.labourer]:
                    if name in IGNORED[LABOURERS]:
                        self._ignore(f"{place}.{labourer_id}.{name}", kept.pop(name), IGNORED[LABOURERS][name])

    def _gather_labourers(self) -> None:
        """Have the labourers of `task_config` in the section; those that stand there too, and differ, stay."""
        inner = self._tasks.get(LABOURERS)
        outer = self._out.section.setdefault(LABOURERS, {}) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or not isinstance(outer, dict):
            return
        for labourer_id in [one for one in inner if one not in outer or inner[one] == outer[one]]:
            if labourer_id in outer:
                del inner[labourer_id]
            else:
                self._move(inner, labourer_id, f"{TASKS}.{LABOURERS}", outer, LABOURERS)
        if not inner:
            del self._tasks[LABOURERS]

    # ---- bookkeeping

    def _move(
        self, source: dict[str, Any], name: str, place: str, target: dict[str, Any], there: str, name_there: str = ""
    ) -> None:
        """Move a key, into what stands there already where both are dicts or say the same."""
        value = source.pop(name)
        name_there = name_there or name
        if target.get(name_there) is None:
            target[name_there] = dict(value) if isinstance(value, Mapping) else value
        else:
            target[name_there], problems = merged(target[name_there], value, f"{ROOT}.{_join(there, name_there)}")
            self._out.problems += problems
        self._moved(_join(place, name), _join(there, name_there))

    def _moved(self, key: str, target: str) -> None:
        # What went on from where it was moved to first counts as one move.
        origin = self._out.origin(f"{ROOT}.{key}")
        self._out.moved = [one for one in self._out.moved if one.key != origin]
        self._out.moved.append(Moved(origin, f"{ROOT}.{target}"))

    def _ignore(self, path: str, value: Any, reason: str) -> None:
        self._out.ignored.append(Ignored(self._out.origin(f"{ROOT}.{path}"), value, reason))

    def _problem(self, path: str, value: Any, expected: str) -> None:
        self._out.problems.append(ConfigError(self._out.origin(f"{ROOT}.{path}"), value, expected))

    @staticmethod
    def _copy(data: dict[str, Any], name: str) -> None:
        if isinstance(data.get(name), Mapping):
            data[name] = dict(data[name])

    @staticmethod
    def _child(data: dict[str, Any], name: str) -> dict[str, Any]:
        """Return the dict under a name, a new one where there is none; another value is left for the check."""
        if data.get(name) is None:
            data[name] = {}
        found = data[name]
        return found if isinstance(found, dict) else {}

    def _put_back(self) -> None:
        """Leave no empty `task_config` behind where there was none."""
        if self._out.section.get(TASKS) == {}:
            del self._out.section[TASKS]


def _attempts_of(name: Any) -> str:
    """Return the labourer that a `max_attempts_NAME` speaks of, an empty text for any other key."""
    return name.removeprefix("max_attempts_") if isinstance(name, str) and name.startswith("max_attempts_") else ""


def _client_reason(name: Any) -> str:
    if not isinstance(name, str):
        return ""
    if CLIENT_CONFIG.fullmatch(name):
        return _CLIENTS
    return OWN_PLACE if OWN_TABLES.fullmatch(name) else ""


def _dict(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def stands_at(data: Any, path: str) -> bool:
    """Return whether there is something at a dotted path, which begins with the name of the whole."""
    return _stands_at(data, path.split(".")[1:])


def _stands_at(data: Any, steps: list[str]) -> bool:
    """Return whether there is something at a path; names may have dots of their own."""
    if not steps:
        return True
    if not isinstance(data, Mapping):
        return isinstance(data, (list, tuple))
    heads = ((".".join(steps[:count]), steps[count:]) for count in range(1, len(steps) + 1))
    return any(head in data and _stands_at(data[head], rest) for head, rest in heads)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
