"""The papers for those who change sg-local: what they name is there, and the check runs what the README says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAPERS = ("CONTRIBUTING.md", "docs/architecture.md", "docs/log.md")
ELSEWHERE = {"report.json", "stages/NAME.json", "tests/test_X.py", "X.py"}
"""Names that stand for others, and files of a run."""


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_names_files_that_are_there(paper):
    named = set(re.findall(r"[\w./-]+\.(?:py|toml|cfg|md|json)\b", text_of(paper))) - ELSEWHERE
    gone = [name for name in named if not ((ROOT / name).exists() or (ROOT / "sg_local" / name).exists())]
    assert gone == []


@pytest.mark.parametrize(
    "paper", ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_a_paper_links_to_what_is_there(paper):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(paper))
    gone = [link for link in links if "://" not in link and not (ROOT / paper).parent.joinpath(link).exists()]
    assert gone == []


def test_a_recipe_names_tables_that_are_there():
    sources = [
        path.read_text(encoding="utf-8") for part in ("sg_local", "tests") for path in (ROOT / part).rglob("*.py")
    ]
    named = set(re.findall(r"\b[A-Z]{4,}(?:_[A-Z]+)*\b", text_of("CONTRIBUTING.md"))) - {"NAME", "TOML", "GGUF"}
    assert {"BACKENDS", "SYSTEMS", "COMMANDS", "INPUT_RULES"} <= named
    assert [
        name for name in named if not any(re.search(rf"^{name}\b.*=", text, re.MULTILINE) for text in sources)
    ] == []


def test_the_check_runs_the_very_command_of_the_readme():
    command = next(line for line in text_of("README.md").splitlines() if line.endswith("-m pytest"))
    lines = text_of(".ci/run").splitlines()
    assert lines[-1] == command
    assert ".venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy" in lines


def test_the_tools_of_the_check_are_pinned():
    pinned = text_of("constraints.txt")
    assert all(f"\n{tool}==" in pinned for tool in ("ruff", "mypy", "pytest", "pytest-cov", "coverage"))


def test_the_licence_is_the_one_that_setup_names():
    assert "license = Apache-2.0" in text_of("setup.cfg")
    licence = text_of("LICENSE")
    assert "Apache License\n                           Version 2.0" in licence and "the sg-local authors" in licence
