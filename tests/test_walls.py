"""The walls between rooms, read from the source: who may import whom, which library has which one importer.

The table below is the house's plan; docs/architecture.md shows it, and a test holds the two together.
"""

from __future__ import annotations

import ast
import configparser
import graphlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sg_local"
BENCHMARKS = PACKAGE.parent / "benchmarks"
ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.md"
ENGINES = {"llama_cpp", "torch", "triton", "mlx", "mlx_lm", "transformers", "peft", "safetensors"}

DISK = {"records", "files", "run"}
STAGES = {"synth", "filters", "review", "export", "evaluate"}
MAY_IMPORT = {
    "typed": set(),
    "records": {"typed"},
    "words": set(),
    "files": {"records"},
    "cache": {"records", "files", "reading"},
    "reading": {"records", "words"},
    "tables": {"records", "files", "reading", "words"},
    "schemas": {"reading"},
    "home": set(),
    "splitting": set(),
    "parsing": set(),
    "validation": set(),
    "decisions": set(),
    "calibration": set(),
    "kappa": set(),
    "journals": {"records", "files", "reading"},
    "prompts": {"records", "splitting", "parsing"},
    "personal": set(),
    "review": {"kappa", "records", "reading", "splitting", "schemas", "tables", "words", "personal", "calibration"},
    "facts": {"typed", "records", "reading"},
    "run": {"records", "files", "words", "journals", "facts"},
    "fields": {"splitting", "reading"},
    "metrics": {"splitting", "fields", "schemas", "prompts"},
    "tasks": {
        "decisions",
        "records",
        "reading",
        "words",
        "files",
        "schemas",
        "splitting",
        "parsing",
        "prompts",
        "metrics",
        "tables",
    },
    "limits": set(),
    "gguf": {"limits", "records", "files"},
    "report": {*DISK, "review", "words", "splitting", "personal", "calibration"},
    "filters": {"kappa", "records", "run", "words", "schemas", "splitting", "prompts", "metrics", "personal"},
    "models": {"records", "files", "words", "reading", "home", "tasks", "gguf"},
    "backends": {"limits", "words", "parsing", "home", "records", "files", "reading", "cache", "gguf"},
    "doctor": {"limits", "records", "home", "models", "backends"},
    "channel": {"records", "prompts", "backends"},
    "synth": {"records", "run", "parsing", "prompts", "backends", "channel"},
    "training": {*DISK, "validation", "prompts", "gguf", "backends"},
    "export": {
        *DISK,
        "metrics",
        "home",
        "words",
        "facts",
        "reading",
        "prompts",
        "gguf",
        "report",
        "backends",
        "personal",
    },
    "evaluate": {
        *DISK,
        "words",
        "channel",
        "splitting",
        "parsing",
        "fields",
        "schemas",
        "prompts",
        "metrics",
        "report",
        "backends",
        "calibration",
    },
    "serve": {"records", "reading", "parsing", "prompts", "backends", "channel", "calibration", "decisions"},
    "job": {
        "limits",
        "calibration",
        *DISK,
        *STAGES,
        "channel",
        "words",
        "parsing",
        "reading",
        "gguf",
        "schemas",
        "home",
        "cache",
        "journals",
        "prompts",
        "tables",
        "tasks",
        "report",
        "models",
        "backends",
        "training",
        "serve",
    },
    "views": {*DISK, *STAGES, "words", "models", "report", "job", "personal", "calibration"},
    "console": {"words", "review", "views"},
}
"""Which rooms each room may import besides itself. `cli` may import all, and nobody imports `cli`.

`report` holds report.json's records, reader and writer, besides the page: `evaluate` makes a report, `export` tells its
scores to the files, and neither needs the other. Of the job, `views` knows the events only; the face
(`sg_local/__init__.py`) may import all but cli, console and views.
"""

ONE_IMPORTER = {
    "rich": {"console"},
    "click": {"cli"},
    "huggingface_hub": {"models"},
    "regex": {"splitting", "schemas", "personal"},
    "phonenumbers": {"personal"},
    "stdnum": {"personal"},
}
"""Libraries that only these rooms import."""


def room_of(path: Path) -> str:
    """The first part of a module's path below the package; `__main__` is another door of `cli`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return {"__init__": "", "__main__": "cli"}.get(parts[0], parts[0])


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
    if room == "":
        assert not rooms(path) & {"cli", "console", "views"}
    elif room != "cli":
        assert rooms(path) <= MAY_IMPORT[room]


def test_no_arrow_is_allowed_in_vain():
    found: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for path in sources():
        found.setdefault(room_of(path), set()).update(rooms(path))
    assert {room: found[room] for room in MAY_IMPORT} == MAY_IMPORT


def floors() -> list[list[str]]:
    """The rooms from the ground up: each imports only from the floors below its own. CycleError for a circle."""
    sorter = graphlib.TopologicalSorter(MAY_IMPORT)
    sorter.prepare()
    found = []
    while sorter.is_active():
        found.append(sorted(sorter.get_ready()))
        sorter.done(*found[-1])
    return [*found, ["cli"]]


def table() -> str:
    """The arrows as docs/architecture.md shows them, from the top down."""
    order = [room for floor in floors()[-2::-1] for room in floor]
    below = list(reversed(order))
    arrows = {room: ", ".join(sorted(MAY_IMPORT[room], key=below.index)) or "nothing" for room in order}
    return "\n".join(["| room | may import |", "|---|---|", *(f"| {room} | {arrows[room]} |" for room in order)])


def test_the_papers_show_the_same_arrows():
    assert table() in ARCHITECTURE.read_text(encoding="utf-8"), f"docs/architecture.md should hold:\n{table()}"


def test_the_papers_draw_the_same_floors():
    drawing = re.findall(r"^ *(\d+)  (.+)$", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    names = {room for floor in floors() for room in floor}
    drawn = {
        int(number): sorted(itertools.takewhile(names.__contains__, re.split(r" {2,}", line)))
        for number, line in drawing
    }
    assert drawn == dict(enumerate(floors()))


@pytest.mark.parametrize("path", sorted((PACKAGE / "views").glob("*.py")), ids=lambda path: path.name)
def test_views_know_of_the_job_its_events_only(path):
    ours = {name for name in imports(path) if name.startswith("sg_local.job")}
    assert all(name.startswith("sg_local.job.events.") for name in ours)


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.name)
def test_a_benchmark_needs_no_command_line(path):
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("sg_local.")}
    assert not ours & {"cli", "console", "views"} and "click" not in libraries(path)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_has_its_importer(path):
    for library, allowed in ONE_IMPORTER.items():
        if library in libraries(path):
            assert room_of(path) in allowed
    if libraries(path) & ENGINES:
        assert room_of(path) == "backends" or room_of(path) == "export"


def test_the_table_names_every_room():
    found = {room_of(path) for path in sources()} - {"", "cli"}
    assert found == set(MAY_IMPORT)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_reads_the_environment(path):
    text = path.read_text(encoding="utf-8")
    if room_of(path) not in ("cli", "home"):
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
