"""The walls between rooms, read from the source: who may import whom, which library has which one importer.

The table is docs/design's. `rooms` may import `records` always; a room may import its own modules.
"""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sg_local"
ENGINES = {"llama_cpp", "torch", "mlx", "mlx_lm", "transformers", "peft", "safetensors"}

MAY_IMPORT = {
    "records": set(),
    "run": {"records"},
    "tasks": {"records", "schemas"},
    "schemas": set(),
    "prompts": {"records"},
    "metrics": {"records", "prompts"},
    "presets": {"records"},
    "search": {"records", "run"},
    "models": {"records", "run", "tasks", "gguf"},
    "gguf": {"records", "run"},
    "synth": {"records", "run", "tasks", "prompts", "backends"},
    "filters": {"records", "run", "prompts", "schemas"},
    "review": {"records", "run"},
    "training": {"records", "run", "prompts", "backends", "gguf"},
    "export": {"records", "run", "prompts", "gguf", "backends"},
    "evaluate": {"records", "run", "tasks", "prompts", "backends", "metrics"},
    "serve": {"records", "run", "prompts", "backends"},
    "report": {"records", "run"},
    "doctor": {"records", "models", "backends"},
    "console": {"records"},
    "backends": {"records", "gguf"},
}
"""Which rooms each room may import besides itself. `cli` may import all, and nobody imports `cli`."""

ONE_IMPORTER = {"rich": {"console"}, "click": {"cli"}, "huggingface_hub": {"models"}}
"""Libraries that only these rooms import."""


def room_of(path: Path) -> str:
    """The first part of a module's path below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts[0] != "__init__" else ""


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a source file imports, anywhere in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def rooms(path: Path) -> set[str]:
    """The rooms that a source file imports, its own left out."""
    own = {name.split(".")[1] for name in imports(path) if name.startswith("sg_local.")}
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    return (own & modules) - {room_of(path)}


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_the_table_allows(path):
    room = room_of(path)
    assert "cli" not in rooms(path) or room == "cli"
    if room not in ("cli", ""):
        assert rooms(path) <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_has_its_importer(path):
    for library, allowed in ONE_IMPORTER.items():
        if library in libraries(path):
            assert room_of(path) in allowed
    if libraries(path) & ENGINES:
        assert room_of(path) == "backends" or room_of(path) == "export"


def test_the_table_names_every_room():
    found = {room_of(path) for path in sources()} - {"", "cli"}
    assert found <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_reads_the_environment(path):
    text = path.read_text(encoding="utf-8")
    if room_of(path) not in ("cli", "backends"):
        assert "os.environ" not in text and "getenv" not in text


def test_every_package_is_in_the_wheel():
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent.relative_to(PACKAGE.parent) for path in sources()}
    assert {".".join(folder.parts) for folder in folders} <= listed


CHECK = """
import sys
from click.testing import CliRunner
from sg_local.cli.app import app
import click
def walk(command, path):
    yield path
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            yield from walk(command.get_command(ctx, name), [*path, name])
for path in walk(app, []):
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0, (path, result.output)
    assert "Examples:" in result.output, path
heavy = {"torch", "mlx", "mlx_lm", "transformers", "peft", "llama_cpp", "numpy", "rich", "huggingface_hub", "gguf"}
print(sorted(heavy & set(sys.modules)))
"""


def test_the_help_of_every_command_loads_no_engine():
    done = subprocess.run(
        [sys.executable, "-c", CHECK], capture_output=True, text=True, env={**os.environ}, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
