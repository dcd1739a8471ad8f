"""What a dotted path of the configuration names, and what is told when it names nothing."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from sosw_celery.config.places import found_at, importable_beside
from sosw_celery.errors import ConfigError


@pytest.fixture(autouse=True)
def _imports_restored() -> Iterator[None]:
    """Forget what a test has imported, and where from."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, r"\(ModuleNotFoundError: No module named 'odd_place'\)"),
        (
            "import no_such_module_at_all\n",
            r"\(ModuleNotFoundError: No module named 'no_such_module_at_all', at odd_place.py line 1\)",
        ),
        ("\ndef f(:\n", r"\(SyntaxError: .*\(odd_place.py, line 2\)\)"),
        ("1 / 0\n", r"\(ZeroDivisionError: division by zero, at odd_place.py line 1\)"),
        ("import sys\nsys.exit('no licence')\n", r"\(SystemExit: no licence, at odd_place.py line 2\)"),
        ("raise ValueError('two\\nlines')\n", r"\(ValueError: two lines, at odd_place.py line 1\)"),
        ("other = 1\n", r"\(AttributeError: module 'odd_place' has no attribute 'name'\)"),
    ],
)
def test_what_cannot_be_found_is_one_line(tmp_path: Path, text: str | None, reason: str) -> None:
    """The error names the key, the path, what the import raised, and in which line of the user's file."""
    if text is not None:
        (tmp_path / "odd_place.py").write_text(text)
    sys.path.insert(0, str(tmp_path))
    with pytest.raises(ConfigError, match=rf"^sosw\.x: expected a thing {reason}, got 'odd_place:name'$") as caught:
        found_at("sosw.x", "odd_place:name", "a thing")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("name", "file"), [("plain", "plain.py"), ("inner.config", "inner/config.py"), ("package", "package/__init__.py")]
)
def test_modules_beside_the_configuration_can_be_imported(tmp_path: Path, name: str, file: str) -> None:
    """Also those of a package: the directory is the one from which the configuration itself was found."""
    module = types.ModuleType(name)
    module.__file__ = str(tmp_path / file)
    if file.endswith("__init__.py"):
        module.__path__ = [str(tmp_path / "package")]
    (tmp_path / "beside_it.py").write_text("name = 7\n")
    importable_beside(module)
    importable_beside(module)
    assert sys.path.count(str(tmp_path)) == 1
    assert found_at("sosw.x", "beside_it:name", "a thing") == 7


def test_modules_of_the_working_directory_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those that `imports` names: the script `celery` does not have that directory on its path, nor has it later."""
    (tmp_path / "beside_the_app.py").write_text("name = 'found'\n")
    monkeypatch.chdir(tmp_path)
    assert found_at("sosw.x", "beside_the_app:name", "a thing") == "found"
    assert str(tmp_path) not in sys.path
