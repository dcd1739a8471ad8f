"""docker-compose.yml without a Docker engine: its form, its wiring, and that each command line can be parsed."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml
from celery.bin.base import CLIContext
from celery.bin.celery import celery as celery_command

import celeryconfig
from sosw_celery.celery import app
from sosw_celery.cli import sosw
from sosw_celery.cli.health import full_name
from sosw_celery.names import QUEUES

CHECKOUT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


def test_compose_file_is_valid_by_the_compose_specification() -> None:
    """The file is valid by the schema of the Compose specification."""
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    jsonschema.validate(COMPOSE, schema)


def test_the_schema_refuses_a_misspelt_key() -> None:
    """The schema is one that notices mistakes, so that the test above says something."""
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    broken = {**COMPOSE, "services": {"redis": {**SERVICES["redis"], "helthcheck": {}}}}
    with pytest.raises(jsonschema.ValidationError, match="helthcheck"):
        jsonschema.validate(broken, schema)


def words_of(command: list[str] | str) -> list[str]:
    """Return a command as its words."""
    return shlex.split(command) if isinstance(command, str) else command


def health_check(name: str) -> list[str]:
    """Return the words of what tells the health of a service."""
    kind, *command = SERVICES[name]["healthcheck"]["test"]
    assert kind in ("CMD", "CMD-SHELL")
    return command if kind == "CMD" else words_of(command[0])


def command_lines() -> Iterator[Any]:
    """Give every command of our own image: what each service runs, and what tells its health."""
    for name in OURS:
        yield pytest.param(words_of(SERVICES[name]["command"]), id=name)
        if "healthcheck" in SERVICES[name]:
            yield pytest.param(health_check(name), id=f"{name}-health")


def parse(group: click.Group, words: list[str], parent: CLIContext | None) -> dict[str, Any]:
    """Return the options of a command line, parsed by the group that would run it; nothing is run.

    Raises:
        click.UsageError: It cannot be parsed.
    """
    name, command, arguments = group.resolve_command(click.Context(group), words)
    assert command is not None
    context = command.make_context(name, arguments, obj=parent)
    if isinstance(command, click.Group):
        return parse(command, [*context._protected_args, *context.args], parent)
    return context.params


def celery_options(words: list[str]) -> dict[str, Any]:
    """Return the options of a `celery -A sosw_celery ...` command line."""
    assert words[:3] == ["celery", "-A", "sosw_celery"]
    return parse(celery_command, words[3:], CLIContext(app=app, no_color=True, workdir=None))


@pytest.mark.parametrize("words", list(command_lines()))
def test_every_command_line_is_one_that_the_real_program_takes(words: list[str]) -> None:
    """Each command parses with the very click commands that will get it."""
    if words[0] == "celery":
        celery_options(words)
    else:
        assert words[0] == "sosw-celery"
        parse(sosw, words[1:], None)


def test_an_unknown_option_would_be_noticed() -> None:
    """The parser used here refuses what the real program refuses."""
    with pytest.raises(click.UsageError, match="no-such-option"):
        celery_options(["celery", "-A", "sosw_celery", "inspect", "--no-such-option"])


def test_the_essentials_worker_serves_each_of_our_own_queues() -> None:
    """No queue of sosw-celery's own tasks is left without a worker."""
    served = celery_options(SERVICES["essentials"]["command"])["queues"]
    assert set(served) == set(QUEUES.values())


def test_the_labourers_worker_serves_a_configured_labourer() -> None:
    """The queue of the labourer's worker is the name of a labourer in celeryconfig.py."""
    served = celery_options(SERVICES["count-words"]["command"])["queues"]
    assert set(served) <= set(celeryconfig.sosw["labourers"])


def test_workers_and_their_health_checks_name_the_same_node() -> None:
    """Each health check asks for the node that its own service starts."""
    for name in ("essentials", "count-words"):
        node = celery_options(SERVICES[name]["command"])["hostname"]
        words = health_check(name)
        assert words[:2] == ["sosw-celery", "health"]
        assert full_name(parse(sosw, words[1:], None)["node"]) == node
        assert name.replace("-", "_") == node.split("@")[0]


def test_every_setting_that_the_services_get_is_one_that_celeryconfig_reads() -> None:
    """No variable is set that nobody reads."""
    text = (CHECKOUT / "celeryconfig.py").read_text()
    for name in OURS:
        for variable in SERVICES[name]["environment"]:
            assert variable.startswith("AWS_") or variable in text


def test_volumes_are_mounted_where_the_image_prepares_them() -> None:
    """A fresh volume takes its owner from the image's directory, so each mount point of ours exists there."""
    dockerfile = (CHECKOUT / "Dockerfile").read_text()
    for name in OURS:
        for mount in SERVICES[name]["volumes"]:
            volume, place = mount.split(":")
            assert volume in COMPOSE["volumes"]
            assert place in dockerfile
    queue = SERVICES["essentials"]["environment"]["SOSW_QUEUE_BUCKET"].removeprefix("file://")
    assert f"queue:{queue}" in SERVICES["essentials"]["volumes"]


def test_everything_that_the_image_copies_is_in_the_build_context() -> None:
    """Each file that the Dockerfile copies exists and is let through by .dockerignore."""
    let_through = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (.+) \S+$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    assert copies
    for source in " ".join(copies).split():
        assert source in let_through
        assert os.path.exists(CHECKOUT / source), source
