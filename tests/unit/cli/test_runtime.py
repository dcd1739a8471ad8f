"""Which app a command is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sosw_celery.system.exits import ExitCode
from tests.unit.cli.test_config import run_in

INSTALLED = "from sosw_celery import install; app = install(app, {'labourers': {'resize': {}}})"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("", "--app: expected an app that has the system: app = sosw_celery.install(Celery(...)), got 'proj'"),
        ("raise OSError('gone')", "--app: expected a module with a Celery app, as `celery -A` takes it (OSError: gone"),
    ],
)
def test_an_app_that_cannot_be_meant_is_one_line(tmp_path: Path, module: str, line: str) -> None:
    """With the exit code of a configuration that is wrong."""
    (tmp_path / "proj.py").write_text(f"from celery import Celery\napp = Celery('proj')\n{module}\n")
    done = run_in(tmp_path, "-A", "proj", "config", "show")
    assert done.returncode == ExitCode.CONFIG
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_app_that_is_named_is_meant(tmp_path: Path) -> None:
    """By sosw-celery as by celery; a command that starts processes has to know its name."""
    (tmp_path / "proj.py").write_text(f"from celery import Celery\napp = Celery('proj')\n{INSTALLED}\n")
    assert '"resize"' in run_in(tmp_path, "-A", "proj", "config", "show", "--json").stdout
    by_celery = [sys.executable, "-m", "celery", "-A", "proj", "sosw"]
    shown = subprocess.run([*by_celery, "config", "show", "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert '"resize"' in shown.stdout, shown.stderr
    refused = subprocess.run([*by_celery, "up"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == ExitCode.CONFIG
    assert "`sosw-celery -A APP`, for a command that starts processes" in refused.stderr


@pytest.mark.parametrize(("name", "found"), [("proj:nope", "(proj has proj:app)"), ("empty", "(empty has none)")])
def test_a_module_without_the_app_that_is_meant_says_which_it_has(tmp_path: Path, name: str, found: str) -> None:
    """Not what Celery looked for last."""
    (tmp_path / "proj.py").write_text("from celery import Celery\napp = Celery('proj')\n")
    (tmp_path / "empty.py").write_text("")
    done = run_in(tmp_path, "-A", name, "config", "show")
    assert done.returncode == ExitCode.CONFIG
    assert found in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_a_module_of_the_app_raises_is_told(tmp_path: Path) -> None:
    """Celery passes over the module `celery` of a package where its import fails, and says something else."""
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "__init__.py").write_text("")
    (tmp_path / "proj" / "celery.py").write_text("import no_such_library\n")
    done = run_in(tmp_path, "-A", "proj", "config", "show")
    assert done.returncode == ExitCode.CONFIG
    assert "No module named 'no_such_library'" in done.stderr
    (tmp_path / "proj" / "celery.py").write_text("1 +\n")
    assert "SyntaxError" in run_in(tmp_path, "-A", "proj", "config", "show").stderr
    (tmp_path / "proj" / "celery.py").unlink()
    assert "(proj has none)" in run_in(tmp_path, "-A", "proj", "config", "show").stderr
