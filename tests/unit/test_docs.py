"""The documents: their links lead somewhere, their snippets can be read, and the settings that they name exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])
OURS = [ROOT / "README.md", DOCS / "index.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ROW = re.compile(r"^\|(.+)\|$")


def named(path: Path) -> str:
    """Return how a page is called in the name of its test."""
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    """Return a page without its code: there, brackets are no links and `#` no headings."""
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("(", " ").replace("[", " "), FENCE.sub("", text))


def anchors_of(page: Path) -> set[str]:
    """Return what can follow `#` in a link to a page."""
    headings = HEADING.findall(FENCE.sub("", page.read_text()))
    plain = (re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", one)).strip().lower() for one in headings)
    return {re.sub(r"[-\s]+", "-", one) for one in plain}


def snippets(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [text for marked, text in FENCE.findall(page.read_text()) if marked == language]


def hooks() -> ModuleType:
    """Return the module that fills in what the site takes from the code."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "tools" / "docs_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_python(text: str) -> bool:
    """Return whether a snippet is Python: statements, or entries of a dict of the configuration."""
    for whole in (text, f"{{{text}}}"):
        try:
            ast.parse(whole)
        except SyntaxError:
            continue
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    """Every link of a page to a file of the project finds the file, and its heading."""
    for link in LINK.findall(without_code(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if DOCS in page.parents], ids=named)
def test_pages_of_the_site_link_to_pages_of_the_site(page: Path) -> None:
    """A link that leads out of `docs/` would work in the repository and be dead in the site."""
    for link in LINK.findall(without_code(page.read_text())):
        if not re.match(r"[a-z]+:|#", link):
            assert DOCS in (page.parent / link.partition("#")[0]).resolve().parents, link


@pytest.mark.parametrize("page", OURS, ids=named)
def test_python_snippets_can_be_compiled(page: Path) -> None:
    """What is marked as Python is Python, or entries of a dict for `celeryconfig.py`."""
    for text in snippets(page, "python"):
        assert is_python(text), text


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_json_and_yaml_snippets_can_be_loaded(page: Path) -> None:
    """What is marked as JSON or YAML is that."""
    for text in snippets(page, "json"):
        json.loads(text)
    for text in snippets(page, "yaml"):
        yaml.safe_load(text)


@pytest.mark.parametrize("page", OURS, ids=named)
def test_console_snippets_name_commands_that_exist(page: Path) -> None:
    """What is to be typed begins with `$ `, and a command of ours in it is one that there is."""
    from sosw_celery.cli import COMMANDS

    for text in snippets(page, "console"):
        assert text.startswith("$ "), text
        typed = [line for line in text.splitlines() if line.startswith("$ ")]
        for command in re.findall(r"sosw-celery ([a-z]+)", "\n".join(typed)):
            assert command in COMMANDS, text


def tables(page: Path) -> Iterator[list[list[str]]]:
    """Yield the tables of a page, each as its rows of cells."""
    rows: list[list[str]] = []
    for line in [*FENCE.sub("", page.read_text()).splitlines(), ""]:
        found = ROW.match(line)
        if found:
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", found[1])])
        elif rows:
            yield rows
            rows = []


def settings_rows() -> Iterator[Any]:
    """Yield (page, names of keys, stated defaults) of each row of a table of settings: its head begins key, default."""
    for page in PAGES:
        for head, _, *rows in tables(page):
            if [cell.lower() for cell in head[:2]] in (["key", "default"], ["setting", "default"]):
                for cells in rows:
                    names = re.findall(r"`([a-z0-9_]+)`", cells[0])
                    yield pytest.param(names, cells[1], id=f"{named(page)}-{'-'.join(names)}")


def defaults() -> dict[str, list[Any]]:
    """Return what each key of the settings is by default, in each section that has it."""
    found: dict[str, list[Any]] = {}
    for model in hooks().sections().values():
        for name, field in model.model_fields.items():
            found.setdefault(name, []).append(field.get_default(call_default_factory=True))
    return found


@pytest.mark.parametrize(("names", "stated"), list(settings_rows()))
def test_settings_that_pages_name_exist_with_that_default(names: list[str], stated: str) -> None:
    """A key in a table of settings is one of the settings, and a default that is a number is its default."""
    known = defaults()
    values = stated.split(", ") if len(names) > 1 else [stated]
    for name in names:
        assert name in known, name
    if len(values) == len(names):
        for name, value in zip(names, values, strict=True):
            number = re.fullmatch(r"`?(\d[\d,]*(?:\.\d+)?)`?(?: s| seconds)?", value)
            if number:
                assert float(number[1].replace(",", "")) in known[name], (name, value, known[name])


def test_every_setting_says_what_it_means() -> None:
    """The reference has a sentence for each key: the comment `#:` above it in its section."""
    found = hooks()
    silent = [
        f"{place}.{name}"
        for place, model in found.sections().items()
        for name in model.model_fields
        if not found.meaning_of(model, name)
    ]
    assert silent == []


def test_the_reference_has_every_command_and_every_section() -> None:
    """A page that asks for the settings or the commands gets all of them."""
    from sosw_celery.cli import COMMANDS

    text = hooks().on_page_markdown("<!-- settings -->\n<!-- commands -->")
    for name in COMMANDS:
        assert f"## `sosw-celery {name}`" in text
    for place in ("sosw", "sosw.labourers.LABOURER_ID", "sosw.task_config.dynamo_db_config"):
        assert f"## `{place}`" in text
    assert "| `lease_s` | `20.0` |" in text


def test_nothing_of_the_site_is_loaded_from_elsewhere() -> None:
    """The site can be read without a network: no fonts, scripts or styles of others."""
    config = (ROOT / "mkdocs.yml").read_text()
    assert re.search(r"^  font: false$", config, re.MULTILINE)
    assert not re.search(r"https?://", config)
