"""The tree of a job's levels, walked twice: once to see what is split, once to yield the tasks.

The nodes of the tree are the job itself and the values of its levels that have content: dicts of attributes, flags and
levels. A level of a node is *split* when a flag that counts there says so, or when something below it is split. The
second cannot be seen on the spot: so the survey keeps one byte for each level without a flag, in the order of the walk,
and the second walk, which opens the same nodes in the same order, reads them back. Bytes of nodes that it will not open
are taken back at once.

Everything that can be wrong is found by the survey. What is wrong with a single node (two spellings of a level, say)
counts only if that node is opened: what is not split travels as it is, and nothing in it is ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise, repeat
from typing import Any, NamedTuple

from sosw_celery.core.notes import Note, Notes
from sosw_celery.core.payload import Path, show_path
from sosw_celery.core.schema import NO_FLAGS, Level, Meaning, Scope, Vocabulary, Word, parse_size, parse_switch
from sosw_celery.errors import InvalidJob, shorten

__all__ = ["Tree", "is_plain"]

PLAIN_TYPES = frozenset({str, int, float, bool})


class _Values(NamedTuple):
    """What a node has for one level, as it stands in the job."""

    level: int
    key: str
    content: Any


class _Node(NamedTuple):
    """The parts of a node, sorted by what they are."""

    #: All but its levels. Flags too, because tasks keep them.
    attributes: dict[str, Any]
    flags: list[tuple[Word, str, Any]]
    #: Outermost first.
    levels: list[_Values]


class Tree:
    """The levels of one job: `survey` it once, then `expand` it any number of times.

    Parameters:
        levels: Outermost first.
        start: The level that the job's root is about; None for the outermost.
        around: A node around the job; its flags count in the job.
    """

    def __init__(
        self, levels: Sequence[Level], start: str | None = None, around: Mapping[str, Any] | None = None
    ) -> None:
        self._levels = levels
        self._vocabulary = Vocabulary(levels)
        self._start = 0 if start is None else self._vocabulary.level_of(start)
        self._around = around or {}
        self._outer = self._scope(self._read(self._around).flags, self._start, NO_FLAGS, None)
        self._splits = bytearray()
        #: Whether the job asks to be opened. Known after the survey.
        self.is_split = False
        self.notes = Notes(self._vocabulary.flags)

    def survey(self, job: Mapping[str, Any]) -> None:
        """Find out what is split, and what the job has to be warned of.

        Raises:
            InvalidJob: The job cannot be split as it asks; with the path.
        """
        self.is_split, problem = self._survey_node(job, self._start, self._outer, None)
        if not self.is_split:
            self._note_nothing_split(job)
        elif problem:
            raise problem

    def expand(self, job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Return the tasks of a job, which may differ from the surveyed one in attributes of its root.

        Where the job is split, its attributes win over those around it. One that is not is a single task, with those
        around it laid over it.
        """
        if not self.is_split:
            return iter([{**job, **self._around}])
        return self._expand_node(job, self._start, self._outer, self._around, iter(self._splits))

    # What both walks read.

    def _read(self, node: Mapping[str, Any]) -> _Node:
        parts = _Node({}, [], [])
        vocabulary = self._vocabulary
        for key, value in node.items():
            word = vocabulary[key]
            if word is None:
                parts.attributes[key] = value
            elif word.meaning is Meaning.VALUES:
                parts.levels.append(_Values(word.level, key, value))
            else:
                parts.attributes[key] = value
                parts.flags.append((word, key, value))
        if len(parts.levels) > 1:
            parts.levels.sort(key=lambda values: values.level)
        return parts

    def _scope(self, flags: list[tuple[Word, str, Any]], index: int, outer: Scope, path: Path) -> Scope:
        """Return the scope of a node: its own flags for the levels from `index` on, nearer than those around it."""
        isolated: dict[int, bool] = {}
        batches: dict[int, int] = {}
        for word, key, value in flags:
            if word.level < index:
                continue
            place = f"{show_path(path)}.{key}"
            if word.meaning is Meaning.ISOLATE:
                # Given in both spellings, one that is true is enough.
                isolated[word.level] = parse_switch(value, place) or isolated.get(word.level, False)
            elif batches.setdefault(word.level, parse_size(value, place)) != parse_size(value, place):
                raise InvalidJob(place, f"expected one batch size, found {batches[word.level]} too", shorten(value))
        return Scope(isolated, batches).inside(outer) if isolated or batches else outer

    # The first walk.

    def _survey_node(
        self, node: Mapping[str, Any], index: int, outer: Scope, path: Path
    ) -> tuple[bool, InvalidJob | None]:
        """Return whether a node asks to be opened, and what is wrong with it in that case."""
        _, flags, levels = self._read(node)
        scope = outer
        if flags:
            scope = self._scope(flags, index, outer, path)
            self._note_flags(flags, index, path)
        asks = index in scope.sizes
        given = [values for values in levels if values.level >= index and _has_values(values.content)]
        first_given = given[0].level if given else len(self._levels)
        if first_given > index:
            self._note_missing(range(index, first_given), scope, path)
        if given:
            asks = self._survey_values(given[0], given[1:], scope, path) or asks
        return asks, self._problem(levels, index, path)

    def _survey_values(self, values: _Values, beside: list[_Values], scope: Scope, path: Path) -> bool:
        """Return whether a level of a node is split."""
        level, key, content = values
        flagged = level in scope.sizes
        mark = len(self._splits)
        if not flagged:
            self._splits.append(False)
        if not beside and is_plain(content):
            return flagged
        asks, problem = flagged, _mixture(content, path, key)
        if problem:
            asks = asks or any(other.level in scope.sizes for other in beside)
        else:
            for name, child in _entries(content):
                inner = _with_beside(child, beside)
                if inner is None:
                    continue
                child_asks, child_problem = self._survey_child(inner, level + 1, scope, (path, key, name))
                asks = asks or child_asks
                problem = problem or self._conflict(child, beside, (path, key, name)) or child_problem
        if not asks:
            del self._splits[mark + 1 :]
            return False
        if problem:
            raise problem
        if not flagged:
            self._splits[mark] = True
        return True

    def _survey_child(self, child: Any, index: int, scope: Scope, path: Path) -> tuple[bool, InvalidJob | None]:
        if isinstance(child, dict):
            return self._survey_node(child, index, scope, path)
        return False, InvalidJob(show_path(path), "expected null or a dict under a value that is split", shorten(child))

    def _problem(self, levels: list[_Values], index: int, path: Path) -> InvalidJob | None:
        """Return what makes a node ambiguous once it is opened."""
        for values in levels:
            if values.level < index:
                name = self._levels[values.level].plural
                problem = f"expected no attribute named like the level {name!r}, which is further out"
                return InvalidJob(f"{show_path(path)}.{values.key}", problem, shorten(values.content))
        for values, following in pairwise(levels):
            if values.level == following.level:
                problem = f"expected one spelling, found {values.key!r} too"
                return InvalidJob(f"{show_path(path)}.{following.key}", problem, shorten(following.content))
        return None

    def _conflict(self, child: Any, beside: list[_Values], path: Path) -> InvalidJob | None:
        """Return what is wrong when values that stand beside a level stand in one of its nodes as well."""
        if not beside or not isinstance(child, dict):
            return None
        for values in beside:
            for spelling in self._levels[values.level].spellings:
                if spelling in child:
                    problem = f"expected these values either here or further out, found {values.key!r} there too"
                    return InvalidJob(f"{show_path(path)}.{spelling}", problem, shorten(child[spelling]))
        return None

    def _note_flags(self, flags: list[tuple[Word, str, Any]], index: int, path: Path) -> None:
        for word, key, _ in flags:
            if word.meaning is Meaning.STRAY_FLAG:
                self.notes.add(Note.STRAY_FLAG, key, path)
            elif word.level < index:
                self.notes.add(Note.INNER_FLAG, key, path)

    def _note_missing(self, missing: range, scope: Scope, path: Path) -> None:
        for level in scope.sizes:
            if level in missing:
                self.notes.add(Note.NO_VALUES, self._levels[level].plural, path)

    def _note_nothing_split(self, job: Mapping[str, Any]) -> None:
        parts = self._read(job)
        if parts.levels:
            for level in self._scope(parts.flags, self._start, self._outer, None).sizes:
                self.notes.add(Note.NOTHING_SPLIT, self._levels[level].plural, None)

    # The second walk.

    def _expand_node(
        self, node: Mapping[str, Any], index: int, outer: Scope, skeleton: Mapping[str, Any], splits: Iterator[int]
    ) -> Iterator[dict[str, Any]]:
        """Yield the tasks of a node, in the order of its values.

        Parameters:
            skeleton: What the tasks have from the nodes around this one.
            splits: The bytes of the survey that are not read yet.
        """
        attributes, flags, levels = self._read(node)
        scope = self._scope(flags, index, outer, None) if flags else outer
        task = {**skeleton, **attributes}
        given = [values for values in levels if _has_values(values.content)]
        if len(given) < len(levels):
            task.update({key: content for _, key, content in levels if not _has_values(content)})
        if not given:
            yield task
            return
        level, _, content = given[0]
        size = scope.sizes.get(level, 0)
        if not size and not next(splits):
            yield {**task, **dict(map(self._unsplit, given))}
            return
        beside = given[1:]
        key = self._levels[level].plural
        batch: list[Any] = []
        for name, child in _entries(content):
            inner = _with_beside(child, beside)
            if inner is None:
                batch.append(name)
                if len(batch) >= size:
                    yield {**task, key: batch}
                    batch = []
                continue
            if batch:
                yield {**task, key: batch}
                batch = []
            yield from self._expand_node(inner, level + 1, scope, {**task, key: [name]}, splits)
        if batch:
            yield {**task, key: batch}

    def _unsplit(self, values: _Values) -> tuple[str, Any]:
        """Return the key and the values of a level that stays together: plain ones as a list, others as they are."""
        level, key, content = values
        if isinstance(content, (dict, list, tuple)) and is_plain(content):
            return self._levels[level].plural, list(content)
        return key, content


def is_plain(content: Any) -> bool:
    """Return whether values have no content of their own: one scalar, a list of scalars, or a dict of None."""
    if isinstance(content, dict):
        return set(map(type, content.values())) <= {type(None)}
    if not isinstance(content, (list, tuple)):
        return True
    types = set(map(type, content))
    # Subclasses of these are rare: texts or numbers of an Enum, in a job that did not come from JSON.
    return types <= PLAIN_TYPES or all(issubclass(kind, (str, int, float)) for kind in types)


def _has_values(content: Any) -> bool:
    """Return whether there is at least one value: an empty one, also 0 or "", is none."""
    if isinstance(content, (list, tuple)) and content and isinstance(content[0], dict):
        return any(content)
    return bool(content)


def _entries(content: Any) -> Iterable[tuple[Any, Any]]:
    """Return each value with its content, which is None for a plain one."""
    if isinstance(content, dict):
        return content.items()
    if not isinstance(content, (list, tuple)):
        return [(content, None)]
    if isinstance(content[0], dict):
        return chain.from_iterable(item.items() for item in content)
    return zip(content, repeat(None))


def _mixture(content: Any, path: Path, key: str) -> InvalidJob | None:
    """Return what is wrong with a list that cannot be split: one of neither scalars only, nor dicts only."""
    if not isinstance(content, (list, tuple)) or is_plain(content) or all(isinstance(item, dict) for item in content):
        return None
    problem = "expected a list of texts and numbers, or a list of dicts"
    return InvalidJob(f"{show_path(path)}.{key}", problem, shorten(content))


def _with_beside(child: Any, beside: list[_Values]) -> Any:
    """Return a child with the values that stand beside its level: they belong to each value of that level."""
    if not beside or not (child is None or isinstance(child, dict)):
        return child
    return {**{values.key: values.content for values in beside}, **(child or {})}
