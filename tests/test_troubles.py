"""Every error leads to an entry of docs/troubleshooting.md, every entry is reached, and `help` shows it."""

from __future__ import annotations

import ast
import errno
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import DOCS, anchors, headings
from terminal import Terminal

from sg_local.cli import troubles
from sg_local.cli.app import app
from sg_local.files import translated
from sg_local.records import MadeOtherwise, NoRows, SgError

PACKAGE = Path(troubles.__file__).parent.parent
PAGE = DOCS / f"{troubles.PAGE}.md"
ANYBODY_S = {"reading", "records", "run", "files"}
"""Modules that read and write for others: their errors belong to the caller's entry where it has one."""


def raising_modules():
    """The modules that make errors, by dotted name below the package."""
    for path in PACKAGE.rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
        names = {getattr(node.func, "id", "") for node in calls}
        if names & {"SgError", "MadeOtherwise", "NoRows"}:
            yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("module", sorted(raising_modules()))
def test_a_module_that_makes_errors_has_an_entry(module):
    assert module in ANYBODY_S or any(place in troubles.PLACES for place in troubles.whole_and_parts(module))


def test_places_are_there_and_stand_once():
    places = [place for named in troubles.ENTRIES.values() for place in named]
    assert len(places) == len(set(places))
    for place in places:
        path = PACKAGE.joinpath(*place.split("."))
        function = path.name if not (path.is_dir() or path.with_suffix(".py").exists()) else ""
        source = path.parent.with_suffix(".py") if function else None
        assert source is None or f"def {function}(" in source.read_text("utf-8"), place


def test_every_entry_of_an_error_has_its_anchor_on_the_page():
    assert set(troubles.ENTRIES) <= anchors(PAGE) and set(troubles.ENTRIES) <= set(troubles.entries())


def test_every_entry_is_reached_by_an_error_or_is_a_question():
    titles = [title for title in headings(PAGE.read_text("utf-8")) if troubles.anchor(title) in troubles.entries()]
    unreached = [one for one in titles if troubles.anchor(one) not in troubles.ENTRIES and not one.endswith("?")]
    assert unreached == []


@pytest.fixture
def folder(own_folder):
    (own_folder / "bad.toml").write_text('kind = "classification"\ninstruction = "x"\n', encoding="utf-8")
    (own_folder / "broken.toml").write_text("kind = \n", encoding="utf-8")
    (own_folder / "rows.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (own_folder / "no.gguf").write_bytes(b"nothing")
    return own_folder


@pytest.mark.parametrize(
    ("line", "about"),
    [
        (("trian", "x"), "a-command-is-refused"),
        (("run", "support_routing", "--sead", "1"), "a-command-is-refused"),
        (("run",), "a-command-is-refused"),
        (("train", "nowhere"), "no-run-of-that-name"),
        (("run", "nothing_of_that_name"), "a-task-file-is-refused"),
        (("tasks", "show", "bad.toml"), "a-task-file-is-refused"),
        (("tasks", "show", "broken.toml"), "a-task-file-is-refused"),
        (("run", "support_routing", "--tests", "rows.csv", "--backend", "scripted"), "a-file-of-rows-is-refused"),
        (("run", "support_routing", "--set", "train.epoch=2", "--backend", "scripted"), "a-setting-is-refused"),
        (("run", "support_routing", "--model", "no-such-model"), "no-model-of-that-name"),
        (("inspect", "no.gguf"), "a-model-file-is-refused"),
        (("eval", "support_routing", "--base", "--backend", "scripted", "--gate", "base>=101"), "a-check-is-not-met"),
    ],
)
def test_an_error_says_where_to_read_on(folder, monkeypatch, line, about):
    told = []
    monkeypatch.setattr(sys.modules["sg_local.cli.app"], "show_error", lambda *parts: told.append(parts[-1]))
    done = CliRunner().invoke(app, list(line))
    assert done.exit_code in (1, 2, 3) and told == [about], done.output


def test_an_error_as_json_says_it_too(folder):
    done = CliRunner().invoke(app, ["runs", "show", "nowhere", "--json"])
    assert json.loads(done.stderr)["about"] == "no-run-of-that-name"


def raised(make):
    with pytest.raises((SgError, OSError)) as caught:
        make()
    return caught.value


def full_disk():
    with translated(Path("rows.jsonl")):
        raise OSError(errno.ENOSPC, "No space left on device")


def refused():
    with translated(Path("rows.jsonl")):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_kinds_of_errors_have_their_own_entries():
    assert troubles.entry_of(raised(full_disk)) == "the-disk-is-full"
    assert troubles.entry_of(raised(refused)) == "the-system-refuses-a-file"
    assert troubles.entry_of(MadeOtherwise("x")) == "made-with-other-settings"
    assert troubles.entry_of(NoRows("x")) == "too-few-pairs"
    assert troubles.entry_of(OSError(errno.EACCES, "no")) == "the-system-refuses-a-file"


def test_help_lists_the_entries_and_shows_one():
    told = CliRunner().invoke(app, ["help", "troubleshooting"]).stdout
    assert all(f"\n{name} " in f"\n{told}" for name in troubles.entries())
    shown = CliRunner().invoke(app, ["help", "too-few-pairs"]).stdout
    assert shown.startswith("Too few pairs\n\n`sg-local filter RUN` shows which rule rejected most")
    assert "](" not in CliRunner().invoke(app, ["help", "too-little-memory"]).stdout
    assert CliRunner().invoke(app, ["help", "too-many-cooks"]).exit_code == 2


def test_a_card_on_a_terminal_names_the_command(tmp_path):
    terminal = Terminal(["train", "nowhere"], tmp_path, SG_LOCAL_HOME=str(tmp_path / "home"))
    assert terminal.end() == 2
    assert "More: sg-local help no-run-of-that-name" in terminal.text()
