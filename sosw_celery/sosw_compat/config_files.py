"""Reads a configuration from a file, one of sosw or one of ours, and says what of it is understood here.

    celeryconfig.py       the dict `sosw` of a module; the module is run, as Celery runs it
    any other .py         DEFAULT_CONFIG of its classes and NAME_CONFIG at its top level; no line of it is run
    .json, .yaml, .yml    one configuration, or several under names that end in `_config`

Several configurations of one file (of the Scheduler, the Orchestrator, tasks, health) are parts of one here.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sosw_celery.config import sosw_keys
from sosw_celery.config.settings import KNOWN_KEYS, Settings, read_settings
from sosw_celery.errors import ConfigError, SoswError
from sosw_celery.sosw_compat.python_constants import Unreadable, constants_of
from sosw_celery.text import did_you_mean

__all__ = ["FORMATS", "Report", "Understood", "UnreadableFile", "check_file", "check_section"]

FORMATS = (".py", ".json", ".yaml", ".yml")

#: Names under which a file keeps a configuration.
CONFIG_NAME = re.compile(r"(.*\.)?(DEFAULT_CONFIG|[A-Za-z0-9_]*_CONFIG|[a-z0-9_]*_config)")

#: Dicts whose keys are data, not settings.
DATA = frozenset(
    {"custom_period_patterns", "default_metric_values", "details", "feelings", "field_names", "job", "row_mapper"}
)

Section = dict[str, Any]


class UnreadableFile(SoswError, ValueError):
    """A file holds no configuration that can be read; the text says why."""


@dataclass(frozen=True)
class Understood:
    """A setting that has its effect.

    Parameters:
        key: Its dotted path in the file.
        counts_as: That in the section `sosw`.
        is_moved: Whether it stands elsewhere in the section than in its own configuration.
    """

    key: str
    value: Any
    counts_as: str
    is_moved: bool


@dataclass(frozen=True)
class Report:
    """What a configuration says. Values are shown as they are; mask them before showing them to anybody.

    Parameters:
        settings: None when something is wrong.
        wrong: Every key that is unknown or whose value cannot be used.
    """

    settings: Settings | None
    understood: tuple[Understood, ...]
    ignored: tuple[sosw_keys.Ignored, ...]
    wrong: tuple[ConfigError, ...]


@dataclass
class _Part:
    """One configuration of several. `root` is how its paths begin."""

    root: str
    original: Section
    translation: sosw_keys.Translation
    place: str = ""

    def origin(self, path: str) -> str | None:
        """Return where this part says what stands at a path of the whole; None when it does not."""
        inner = path.removeprefix(f"{sosw_keys.ROOT}.")
        if self.place and inner != self.place and not inner.startswith(f"{self.place}."):
            return None
        found = self.translation.origin(f"{sosw_keys.ROOT}.{inner[len(self.place) :].lstrip('.')}".rstrip("."))
        if not sosw_keys.stands_at(self.original, found):
            return None
        return self.root + found.removeprefix(sosw_keys.ROOT)


@dataclass
class _Parts:
    """All configurations of a file, and what cannot be read of them."""

    parts: list[_Part] = field(default_factory=list)
    ignored: list[sosw_keys.Ignored] = field(default_factory=list)
    wrong: list[ConfigError] = field(default_factory=list)


def check_section(section: Any) -> Report:
    """Return what the `sosw` dict of a configuration says."""
    if not isinstance(section, Mapping):
        return Report(None, (), (), read_settings(section).problems)
    return _report(_Parts([_part(sosw_keys.ROOT, dict(section), "")]))


def check_file(path: Path) -> Report:
    """Return what the configuration in a file says.

    Raises:
        UnreadableFile: There is none in it, or it is none of the formats.
    """
    if path.suffix == ".py":
        return _check_python(path)
    data = _load(path)
    if not isinstance(data, Mapping):
        raise UnreadableFile(f"{path}: expected a dict of settings, got {type(data).__name__}")
    if "sosw" in data:
        return check_section(data["sosw"])
    if data and all(_is_document(name, value) for name, value in data.items()):
        return _report(_gathered(dict(data), frozenset()))
    return check_section(data)


def _check_python(path: Path) -> Report:
    try:
        constants = constants_of(path.read_text("utf-8"), os.environ)
    except (SyntaxError, UnicodeDecodeError) as problem:
        raise UnreadableFile(f"{path}: {problem}") from problem
    if "sosw" in constants.values or "sosw" in constants.imported:
        return check_section(_run(path).get("sosw"))
    named = {name: value for name, value in constants.values.items() if CONFIG_NAME.fullmatch(name)}
    if not named:
        raise UnreadableFile(f"{path}: expected a dict named sosw, DEFAULT_CONFIG, or NAME_CONFIG, found none")
    return _report(_gathered(named, constants.used))


def _run(path: Path) -> Mapping[str, Any]:
    """Return the names of a module of ours; it may import others beside it, as it can under Celery."""
    before = list(sys.path)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        return runpy.run_path(str(path))
    except Exception as problem:  # a configuration is code, and can fail in any way
        raise UnreadableFile(f"{path}: {type(problem).__name__}: {problem}") from problem
    finally:
        sys.path[:] = before


def _load(path: Path) -> Any:
    if path.suffix not in FORMATS:
        raise UnreadableFile(f"{path}: expected a file of {', '.join(FORMATS)}")
    try:
        text = path.read_text("utf-8")
        return json.loads(text) if path.suffix == ".json" else _load_yaml(text)
    except ValueError as problem:
        raise UnreadableFile(f"{path}: {problem}") from problem


def _load_yaml(text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError as problem:
        raise ValueError("reading YAML takes PyYAML: pip install 'sosw-celery[yaml]'") from problem
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ValueError(" ".join(str(problem).split())) from problem


def _is_document(name: Any, value: Any) -> bool:
    """Return whether an entry is a configuration with a name of its own, and no key of a section."""
    is_known = name in KNOWN_KEYS.section or name in sosw_keys.names_known_at("") or name in KNOWN_KEYS.task_config
    return isinstance(name, str) and isinstance(value, Mapping) and not is_known and bool(CONFIG_NAME.fullmatch(name))


# ---- several configurations


def _gathered(named: Section, used: frozenset[str]) -> _Parts:
    """Return the configurations of a file, each with its place in a section; parts of others are not counted again."""
    found = _Parts()
    for name, value in named.items():
        if name in used:
            continue
        value = _readable(value, name, found.wrong)
        if not isinstance(value, dict):
            continue
        place = _place_of(name, value)
        if place is None:
            found.ignored.append(sosw_keys.Ignored(name, value, sosw_keys.OWN_PLACE))
        else:
            found.parts.append(_part(name, value, place))
    return found


def _readable(value: Any, path: str, wrong: list[ConfigError]) -> Any:
    """Return a value without its parts that cannot be read; each of them is a problem."""
    if isinstance(value, Unreadable):
        wrong.append(ConfigError(path, value.text, f"a value that can be read without running line {value.line}"))
        return None
    if isinstance(value, Mapping):
        read = {key: _readable(inner, f"{path}.{key}", wrong) for key, inner in value.items()}
        return {key: inner for key, inner in read.items() if not isinstance(value[key], Unreadable)}
    if isinstance(value, (list, tuple)):
        return type(value)(_readable(inner, f"{path}.{index}", wrong) for index, inner in enumerate(value))
    return value


def _place_of(name: str, config: Section) -> str | None:
    """Return where in a section a configuration belongs, `""` for the section itself, None for a labourer's own."""
    if name.upper().find("META") >= 0 or "write_meta_to_ddb" in config:
        return "meta_handler_config"
    if config and config.keys() <= {"recipient", "subject"}:
        return "sns_config"
    if "default_metric_values" in config:
        return "ecology_config"
    if config.keys() == {"chunkable_attrs"}:
        return "job_schema"
    table = config.get(sosw_keys.TABLE, config)
    if isinstance(table, Mapping) and sosw_keys.is_of_a_labourer(table):
        return None
    known = {*KNOWN_KEYS.section, *KNOWN_KEYS.task_config, *KNOWN_KEYS.dynamo_db_config, *sosw_keys.BESIDE_TASKS}
    return "" if any(key in known for key in config) or _is_misspelled(config, known) else None


def _is_misspelled(config: Section, known: set[str]) -> bool:
    return any(did_you_mean(str(key), known) for key in config)


def _part(root: str, config: Section, place: str) -> _Part:
    if not place:
        return _Part(root, config, sosw_keys.translate(config, KNOWN_KEYS, is_whole=False))
    inner = {key: value for key, value in config.items() if key != "init_clients"}
    translation = sosw_keys.Translation(config, inner)
    if "init_clients" in config:
        reason = sosw_keys.IGNORED[""]["init_clients"]
        translation.ignored.append(sosw_keys.Ignored(f"{sosw_keys.ROOT}.init_clients", config["init_clients"], reason))
    return _Part(root, config, translation, place)


def _report(found: _Parts) -> Report:
    section: Section = {}
    wrong = list(found.wrong)
    ignored = list(found.ignored)
    for part in found.parts:
        own = {part.place: part.translation.section} if part.place else part.translation.section
        section, problems = sosw_keys.merged(section, own)
        wrong += [ConfigError(_at(part, one.key), one.value, one.expected) for one in problems]
        wrong += [_renamed(one, part) for one in part.translation.problems]
        ignored += [
            sosw_keys.Ignored(part.root + one.key.removeprefix(sosw_keys.ROOT), one.value, one.reason)
            for one in part.translation.ignored
        ]
    reading = read_settings(section)
    wrong += [ConfigError(_origin(found, one.key), one.value, one.expected) for one in reading.problems]
    ignored += [sosw_keys.Ignored(_origin(found, one.key), one.value, one.reason) for one in reading.ignored]
    settled = {one.key for one in wrong} | {one.key for one in ignored}
    return Report(
        settings=None if wrong else reading.settings,
        understood=tuple(one for part in found.parts for one in _understood(part, settled, reading.moved)),
        ignored=tuple(ignored),
        wrong=tuple(wrong),
    )


def _origin(found: _Parts, path: str) -> str:
    """Return where the file says what stands at a path of the whole section."""
    return next((origin for part in found.parts if (origin := part.origin(path))), path)


def _at(part: _Part, path: str) -> str:
    return part.origin(path) or path


def _renamed(problem: ConfigError, part: _Part) -> ConfigError:
    return ConfigError(part.root + problem.key.removeprefix(sosw_keys.ROOT), problem.value, problem.expected)


def _understood(part: _Part, settled: set[str], moved: Sequence[sosw_keys.Moved]) -> Iterator[Understood]:
    for path, value in _leaves(part.original, ""):
        key = f"{part.root}.{path}"
        if any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in settled):
            continue
        inner = f"{sosw_keys.ROOT}.{path}"
        counts_as = _moved_to(_target(part, inner), moved)
        yield Understood(key, value, counts_as, counts_as != inner)


def _target(part: _Part, path: str) -> str:
    if part.place:
        return f"{sosw_keys.ROOT}.{part.place}{path.removeprefix(sosw_keys.ROOT)}"
    return _moved_to(path, part.translation.moved)


def _moved_to(path: str, moved: Sequence[sosw_keys.Moved]) -> str:
    for one in moved:
        if path == one.key or path.startswith(f"{one.key}."):
            return one.target + path[len(one.key) :]
    return path


def _leaves(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value and key not in DATA:
            yield from _leaves(value, inner)
        else:
            yield inner, value
