"""What `make audit` makes of pip-audit's answer: it never calls clean what was not looked at."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PLACE = Path(__file__).parents[2] / "tools" / "audit.py"


@pytest.fixture
def audit() -> ModuleType:
    """The program."""
    spec = importlib.util.spec_from_file_location("audit", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_weakness_fails_with_its_package(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A package with a known weakness is named, with the version that mends it."""
    weakness = {"id": "PYSEC-1", "fix_versions": ["2.1"]}
    packages = [{"name": "good", "version": "1", "vulns": []}, {"name": "bad", "version": "2", "vulns": [weakness]}]
    assert audit.judge(packages) is True
    shown = capsys.readouterr().out
    assert "package bad 2: PYSEC-1, fixed in: 2.1" in shown
    assert "2 of 2 audited" in shown


def test_packages_that_were_not_audited_are_told(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Skipped packages are counted as not audited."""
    packages = [{"name": "good", "version": "1", "vulns": []}, {"name": "own", "skip_reason": "not found"}]
    assert audit.judge(packages) is False
    assert "1 of 2 audited" in capsys.readouterr().out


@pytest.mark.parametrize(("ci", "fails"), [("", False), ("true", True)])
def test_an_audit_that_saw_nothing_says_so(
    audit: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ci: str, fails: bool
) -> None:
    """Without data from the service nothing is called clean; in CI that is a failure."""
    monkeypatch.setenv("CI", ci)
    assert audit.judge([{"name": "a", "skip_reason": "not found"}]) is fails
    assert "NOT AUDITED" in capsys.readouterr().out
