"""The gate's table on stdout, whether the export passed or was refused."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from test_cli import JOB

from sg_local.cli import stage
from sg_local.cli.app import app
from sg_local.cli.gates import show_gates
from sg_local.records import SgError
from sg_local.run import Run

CHECKS = [
    {"name": "delta retained", "passed": False, "value": "18 of 20 tensors", "wanted": ">= 90%"},
    {"name": "token ids equal", "passed": True, "value": "3 of 3 prompts", "wanted": "all"},
    {"name": "validation loss", "passed": True, "value": "no rows", "wanted": "", "measured": False},
]
DONE = {"fused": [{"file": "fused-Q4_0.gguf.rejected", "checks": CHECKS}], "folders": [{"path": "mlx", "checks": []}]}


@pytest.fixture
def run(tmp_path):
    folder = Run(tmp_path / "runs" / "trial")
    folder.root.mkdir(parents=True)
    return folder


def test_every_file_and_folder_has_its_table(run, capsys):
    run.write_json("export.json", DONE)
    show_gates(run)
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[:5] == [
        ["fused-Q4_0.gguf.rejected"],
        ["check", "found", "wanted", "passed"],
        ["delta retained", "18 of 20 tensors", ">= 90%", "NO"],
        ["token ids equal", "3 of 3 prompts", "all", "yes"],
        ["validation loss", "no rows", "not measured"],
    ]
    assert cells[5] == ["mlx"]


def test_no_export_shows_nothing(run, capsys):
    show_gates(run)
    assert capsys.readouterr().out == ""


def test_json_is_the_whole_result(run, capsys):
    run.write_json("export.json", DONE)
    show_gates(run, as_json=True)
    assert json.loads(capsys.readouterr().out) == DONE


def test_a_refused_export_shows_its_table_and_exits_with_three(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # put back after the test
    made = CliRunner().invoke(app, list(JOB))
    assert made.exit_code == 0, made.output
    run.write_json("export.json", DONE)

    def refuse(job, name, *, again=False):
        raise SgError("fused-Q4_0.gguf did not pass its gate.", "Try --type Q8_0.", exit_code=3)

    monkeypatch.setattr(stage, "_stage", refuse)
    result = CliRunner().invoke(app, ["export", "trial"])
    assert result.exit_code == 3
    assert "18 of 20 tensors" in result.stdout
    assert "Try --type Q8_0." in result.stderr
