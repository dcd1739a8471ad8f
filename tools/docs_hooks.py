"""What the site takes from the code: every setting with its default, and the help of every command.

MkDocs calls `on_page_markdown` for each page. A page asks for text by a line of its own:

    <!-- settings -->
    <!-- commands -->
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

import annotated_types
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["commands_text", "meaning_of", "on_page_markdown", "sections", "settings_text"]

HELP_WIDTH = 80

#: Keys whose dict has names of the user's own -> how these are written in a dotted path.
OWN_NAMES = {
    "labourers": "LABOURER_ID",
    "job_schema_variants": "NAME",
    "scheduled_jobs": "NAME",
    "health_metrics": "NAME",
}
LIMITS = {annotated_types.Ge: "at least {ge}", annotated_types.Gt: "above {gt}", annotated_types.Le: "at most {le}"}
KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "dict", tuple: "list"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with the text that it asks for."""
    if "<!-- settings -->" in markdown:
        markdown = markdown.replace("<!-- settings -->", settings_text())
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", commands_text())
    return markdown


def sections() -> dict[str, type[BaseModel]]:
    """Return every section of the settings by its dotted place, outermost first, each class once."""
    from sosw_celery.config.settings import Settings

    found: dict[str, type[BaseModel]] = {}
    _add_section("sosw", Settings, found)
    return found


def _add_section(place: str, model: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    found[place] = model
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            if inner not in found.values():
                own_name = f".{OWN_NAMES[name]}" if name in OWN_NAMES else ""
                _add_section(f"{place}.{name}{own_name}", inner, found)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and not typing.get_args(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def settings_text() -> str:
    """Return a heading, the sentence and the table of each section."""
    parts = []
    for place, model in sections().items():
        rows = [_row(name, field, meaning_of(model, name)) for name, field in model.model_fields.items()]
        table = "\n".join(["| key | default | meaning |", "| --- | --- | --- |", *rows])
        parts.append(f"## `{place}`\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n{table}")
    return "\n\n".join(parts)


def _row(name: str, field: FieldInfo, meaning: str) -> str:
    kind = _kind(field)
    cells = (f"`{name}`", _default(field), _arrows(meaning) + ("" if kind == "dict" else f" *{kind.capitalize()}.*"))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _arrows(text: str) -> str:
    """Return the text with real arrows, which no line is broken in; code stays as it is."""
    return re.sub(r"`[^`]*`|->", lambda found: "\N{RIGHTWARDS ARROW}" if found[0] == "->" else found[0], text)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if value is None or value == "":
        return "none"
    return f"`{list(value) if isinstance(value, tuple) else value!r}`"


def _kind(field: FieldInfo) -> str:
    words = dict.fromkeys(_words(field.annotation))
    limits = [LIMITS[type(one)].format(**vars_of(one)) for one in field.metadata if type(one) in LIMITS]
    return ", ".join([" or ".join(words), *limits])


def vars_of(limit: Any) -> dict[str, Any]:
    """Return what a limit of pydantic says, by name."""
    return {name: getattr(limit, name) for name in ("ge", "gt", "le") if hasattr(limit, name)}


def _words(annotation: Any) -> Iterator[str]:
    """Yield the kinds of value that an annotation allows, in words; "nothing" goes without saying."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _words(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _words(argument)
    elif origin is typing.Literal:
        yield from (f"`{value}`" for value in typing.get_args(annotation))
    elif annotation is Any:
        yield "see there"
    elif annotation is not type(None):
        plain = origin or annotation
        known = (word for kind, word in KINDS.items() if inspect.isclass(plain) and issubclass(plain, kind))
        yield next(known, "dict" if _models_in_any(annotation) else "function")


def _models_in_any(annotation: Any) -> bool:
    return next(_models_in(annotation), None) is not None


def meaning_of(model: type[BaseModel], name: str) -> str:
    """Return what the comment `#:` above a setting, or beside it, says; empty when there is none."""
    for owner in model.__mro__:
        if name in vars(owner).get("__annotations__", {}):
            return _comments(owner).get(name, "")
    return ""


def _comments(model: type[Any]) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(model))
    lines = source.splitlines()
    found = {}
    body = typing.cast(ast.ClassDef, ast.parse(source).body[0]).body
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = _comment_at(lines, node.lineno - 1, (node.end_lineno or node.lineno) - 1)
    return found


def _comment_at(lines: list[str], first: int, last: int) -> str:
    beside = re.search(r"#: (.*)$", lines[last])
    if beside:
        return beside[1]
    above: list[str] = []
    while first > 0 and (match := re.match(r"\s*#: (.*)$", lines[first - 1])):
        above.insert(0, match[1])
        first -= 1
    return " ".join(above)


def commands_text() -> str:
    """Return a heading and the help of each command, as it prints it."""
    from sosw_celery.cli import sosw

    return "\n\n".join(_command_texts(sosw, "sosw-celery", None))


def _command_texts(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    context = command.make_context(
        path, [], parent=None, resilient_parsing=True, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH
    )
    yield f"## `{path}`\n\n```text\n{command.get_help(context).strip()}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _command_texts(inner, f"{path} {name}", context)
