"""The locks: every version is the tested one, every file has its SHA-256, and nothing else can come in."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted(path.stem for path in (ROOT / "locks").glob("*.txt"))


def name_of(requirement: str) -> str:
    """A package's name as PyPI compares names."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def pins(text: str) -> dict[str, str]:
    """Each package with its version."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {name_of(name): version for name, version in found}


def lock(name: str) -> str:
    return (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")


def wanted(extra: str) -> set[str]:
    """What setup.cfg asks for, with an extra and the extras inside it."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines, found = [*config["options"]["install_requires"].split("\n"), f"sg-local[{extra}]"], set()
    while lines:
        line = lines.pop()
        if line.startswith("sg-local["):
            for inner in line.partition("[")[2].partition("]")[0].split(","):
                lines += config["options.extras_require"][inner].split("\n")
        elif line:
            found.add(name_of(line))
    return found


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))


def test_there_is_one_for_users_and_one_for_development():
    assert LOCKS == ["demo", "dev"]


@pytest.mark.parametrize("name", LOCKS)
def test_every_version_is_the_tested_one(name):
    locked = pins(lock(name))
    assert {one: version for one, version in locked.items() if CONSTRAINTS.get(one, version) != version} == {}
    foreign = re.compile(r"nvidia-|cuda-|triton|mlx-metal|colorama|pyreadline3|httpx2-jsfetch|pip$")
    assert [one for one in locked if one not in CONSTRAINTS and not foreign.match(one)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_it_holds_all_that_is_asked_for(name):
    assert wanted(name) <= set(pins(lock(name)))


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_has_its_hashes_and_no_address(name):
    text = "".join(line for line in lock(name).splitlines(keepends=True) if not line.startswith("#"))
    requirements = re.split(r"(?<!\\)\n(?=\S)", text.strip())
    assert len(requirements) == text.count("==") - text.count(" == ") and "://" not in text and "--index" not in text
    for one in requirements:
        head, *hashes = one.split(" \\\n    ")
        assert "==" in head and hashes, head
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), head


def test_the_security_paper_names_the_locks():
    paper = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert all(f"locks/{name}.txt" in paper for name in LOCKS) and "--require-hashes" in paper
