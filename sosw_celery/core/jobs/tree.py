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
from typing import Any

from sosw_celery.core.jobs.payload import Path, show_path
from sosw_celery.core.jobs.schema import NO_FLAGS, Level, Meaning, Scope, Vocabulary, Word, parse_size, parse_switch
from sosw_celery.core.jobs.warnings import Note, Notes
from sosw_celery.errors import InvalidJob
from sosw_celery.text import excerpt

__all__ = ["Tree", "is_plain"]

CONTENT_EXPECTED = "expected null or a dict as the content of a value that is split"

PLAIN_TYPES = frozenset({str, int, float, bool})
NONE_TYPE = frozenset({type(None)})

#: What a node has for one level: (index of the level, key, values as they stand in the job).
Given = tuple[int, str, Any]


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
        self._plurals = [level.plural for level in levels]
        self._vocabulary = Vocabulary(levels)
        self._layouts = self._vocabulary.layouts
        self._start = 0 if start is None else self._vocabulary.level_of(start)
        self._around = around or {}
        self._outer = self._scope(self._around, self._start, NO_FLAGS, None)
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
        return iter(self._expand_node(job, self._start, self._outer, dict(self._around), iter(self._splits)))

    def _scope(self, node: Mapping[str, Any], index: int, outer: Scope, path: Path) -> Scope:
        """Return the scope in a node: its own flags for the levels from `index` on, nearer than those around it."""
        isolated: dict[int, bool] = {}
        batches: dict[int, int] = {}
        for word, key in self._layouts[tuple(node)].flags:
            if word.level < index:
                continue
            value, place = node[key], f"{show_path(path)}.{key}"
            if word.meaning is Meaning.ISOLATE:
                # Given in both spellings, one that is true is enough.
                isolated[word.level] = parse_switch(value, place) or isolated.get(word.level, False)
            elif batches.setdefault(word.level, parse_size(value, place)) != parse_size(value, place):
                raise InvalidJob(place, f"expected one batch size, found {batches[word.level]} too", excerpt(value))
        return Scope(isolated, batches).inside(outer) if isolated or batches else outer

    # The first walk.

    def _survey_node(
        self, node: Mapping[str, Any], index: int, outer: Scope, path: Path
    ) -> tuple[bool, InvalidJob | None]:
        """Return whether a node asks to be opened, and what is wrong with it in that case."""
        flags, levels, only = self._layouts[tuple(node)]
        # What all that follows does too, but this is what most nodes of big jobs are.
        if only is not None and only[0] == index and node[only[1]] and is_plain(node[only[1]]):
            asks = index in outer.sizes
            if not asks:
                self._splits.append(False)
            return asks, None
        scope = outer
        if flags:
            scope = self._scope(node, index, outer, path)
            self._note_flags(flags, index, path)
        given = _given(node, levels)
        asks = index in scope.sizes
        if len(levels) > 1 or (levels and levels[0][0] < index):
            problem = self._problem(node, levels, index, path)
            if problem:
                # Which values belong where is the very question, so each level is looked at as if it were alone.
                alone = [[found] for found in given if found[0] >= index]
                return any(self._survey_level(found, scope, path) for found in alone) or asks, problem
        first = given[0][0] if given else len(self._levels)
        if first > index:
            self._note_missing(range(index, first), scope, path)
        return bool(given and self._survey_level(given, scope, path)) or asks, None

    def _survey_level(self, given: Sequence[Given], scope: Scope, path: Path) -> bool:
        """Return whether the outermost of the levels that a node has values for is split."""
        level, key, content = given[0]
        beside = given[1:]
        flagged = level in scope.sizes
        mark = len(self._splits)
        if not flagged:
            self._splits.append(False)
        if not beside and is_plain(content):
            return flagged
        asks, problem = flagged, _mixture(content, path, key)
        if problem:
            asks = asks or any(other in scope.sizes for other, _, _ in beside)
        else:
            for name, child in _entries(content):
                if child is None and not beside:
                    continue
                place = (path, key, name)
                if beside:
                    problem = problem or self._conflict(child, beside, place)
                    child = _with_beside(child, beside)
                if isinstance(child, dict):
                    child_asks, child_problem = self._survey_node(child, level + 1, scope, place)
                    asks = asks or child_asks
                    problem = problem or child_problem
                else:
                    problem = problem or InvalidJob(show_path(place), CONTENT_EXPECTED, excerpt(child))
        if not asks:
            del self._splits[mark + 1 :]
            return False
        if problem:
            raise problem
        if not flagged:
            self._splits[mark] = True
        return True

    def _problem(
        self, node: Mapping[str, Any], levels: Sequence[tuple[int, str]], index: int, path: Path
    ) -> InvalidJob | None:
        """Return what makes a node ambiguous once it is opened."""
        for level, key in levels:
            if level < index:
                problem = f"expected no attribute named like the level {self._levels[level].name!r} further out"
                return InvalidJob(f"{show_path(path)}.{key}", problem, excerpt(node[key]))
        for (level, key), (next_level, next_key) in pairwise(levels):
            if level == next_level:
                problem = f"expected one spelling, found {key!r} too"
                return InvalidJob(f"{show_path(path)}.{next_key}", problem, excerpt(node[next_key]))
        return None

    def _conflict(self, child: Any, beside: Sequence[Given], path: Path) -> InvalidJob | None:
        """Return what is wrong when values that stand beside a level stand in one of its nodes as well."""
        for level, key, _ in beside if isinstance(child, dict) else ():
            for spelling in self._levels[level].spellings:
                if spelling in child:
                    problem = f"expected these values either here or further out, found {key!r} there too"
                    return InvalidJob(f"{show_path(path)}.{spelling}", problem, excerpt(child[spelling]))
        return None

    def _note_flags(self, flags: Iterable[tuple[Word, str]], index: int, path: Path) -> None:
        for word, key in flags:
            if word.meaning is Meaning.STRAY_FLAG:
                self.notes.add(Note.STRAY_FLAG, key, path)
            elif word.level < index:
                self.notes.add(Note.INNER_FLAG, key, path)

    def _note_missing(self, missing: range, scope: Scope, path: Path) -> None:
        for level in scope.sizes:
            if level in missing:
                self.notes.add(Note.NO_VALUES, self._plurals[level], path)

    def _note_nothing_split(self, job: Mapping[str, Any]) -> None:
        if self._layouts[tuple(job)].levels:
            for level in self._scope(job, self._start, self._outer, None).sizes:
                self.notes.add(Note.NOTHING_SPLIT, self._plurals[level], None)

    # The second walk.

    def _expand_node(
        self, node: Mapping[str, Any], index: int, outer: Scope, skeleton: dict[str, Any], splits: Iterator[int]
    ) -> Iterable[dict[str, Any]]:
        """Return the tasks of a node, in the order of its values; what are many is made one by one.

        Parameters:
            skeleton: What the tasks have from the nodes around this one; not used by anybody else.
            splits: The bytes of the survey that are not read yet. The node's own is read at once, those of its nodes
                while its tasks are taken: take them before the next node is expanded.
        """
        flags, levels, only = self._layouts[tuple(node)]
        # What all that follows does too, but this is what most tasks of big jobs come from.
        if only is not None and only[0] in outer.sizes and _is_list_of_plain(node[only[1]]):
            return _in_batches(node[only[1]], outer.sizes[only[0]], self._plurals[only[0]], skeleton)
        given = _given(node, levels)
        task = skeleton
        if len(given) < len(node):
            task.update(_attributes(node, given))
        if not given:
            return (task,)
        scope = self._scope(node, index, outer, None) if flags else outer
        level, _, content = given[0]
        beside = given[1:]
        size = scope.sizes.get(level, 0)
        if not size and not next(splits):
            task.update(map(self._unsplit, given))
            return (task,)
        if size and not beside and _is_list_of_plain(content):
            return _in_batches(content, size, self._plurals[level], task)
        return self._expand_values(content, level, beside, scope, task, splits)

    def _expand_values(
        self,
        content: Any,
        level: int,
        beside: Sequence[Given],
        scope: Scope,
        task: Mapping[str, Any],
        splits: Iterator[int],
    ) -> Iterator[dict[str, Any]]:
        """Yield the tasks of the values of a level: plain ones in batches, those with content as nodes."""
        size, key = scope.sizes.get(level, 0), self._plurals[level]
        batch: list[Any] = []
        for name, child in _entries(content):
            if beside:
                child = _with_beside(child, beside)
            if child is None:
                batch.append(name)
                if len(batch) >= size:
                    yield {**task, key: batch}
                    batch = []
                continue
            if batch:
                yield {**task, key: batch}
                batch = []
            yield from self._expand_node(child, level + 1, scope, {**task, key: [name]}, splits)
        if batch:
            yield {**task, key: batch}

    def _unsplit(self, found: Given) -> tuple[str, Any]:
        """Return the key and the values of a level that stays together: plain ones as a list, others as they are."""
        level, key, content = found
        if isinstance(content, (dict, list, tuple)) and is_plain(content):
            return self._plurals[level], content if isinstance(content, list) else list(content)
        return key, content


def is_plain(content: Any) -> bool:
    """Return whether values have no content of their own: one scalar, a list of scalars, or a dict of None."""
    if not isinstance(content, (list, tuple)):
        return not isinstance(content, dict) or NONE_TYPE.issuperset(map(type, content.values()))
    # Subclasses of these are rare: texts or numbers of an Enum, in a job that did not come from JSON.
    return PLAIN_TYPES.issuperset(map(type, content)) or all(isinstance(item, (str, int, float)) for item in content)


def _is_list_of_plain(content: Any) -> bool:
    """Return whether values that were surveyed and are split are a list of plain ones: there is no mixture any more."""
    return isinstance(content, list) and bool(content) and not isinstance(content[0], dict)


def _in_batches(values: list[Any], size: int, key: str, task: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Return the tasks of plain values, so many in each; what are many is made one by one.

    Parameters:
        task: What they have besides; not used by anybody else.
    """
    if len(values) <= size:
        task[key] = values[:]
        return (task,)
    return ({**task, key: values[start : start + size]} for start in range(0, len(values), size))


def _given(node: Mapping[str, Any], levels: Sequence[tuple[int, str]]) -> list[Given]:
    """Return the levels that a node has at least one value for. An empty one, also 0 or "", is no value."""
    given = []
    for level, key in levels:
        content = node[key]
        if content and (not isinstance(content, (list, tuple)) or not isinstance(content[0], dict) or any(content)):
            given.append((level, key, content))
    return given


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
    return InvalidJob(f"{show_path(path)}.{key}", problem, excerpt(content))


def _with_beside(child: Any, beside: Sequence[Given]) -> Any:
    """Return a child with the values that stand beside its level: they belong to each value of that level."""
    if not beside or not (child is None or isinstance(child, dict)):
        return child
    return {**{key: content for _, key, content in beside}, **(child or {})}


def _attributes(node: Mapping[str, Any], given: Sequence[Given]) -> Mapping[str, Any]:
    """Return everything of a node but the levels that have values."""
    if not given:
        return node
    keys = {key for _, key, _ in given}
    return {key: value for key, value in node.items() if key not in keys}
