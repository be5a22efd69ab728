"""kill -9 at any moment, the same line again, and the run ends as if nothing had happened.

The killed process is a real one: it writes half of what it was about to append, a torn line behind it, and sends
itself SIGKILL; or it dies in the moment before a finished file would get its name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models

from tests.faults.jobs import REAL, SCRIPTED, result_of

DEADLY = """
import os, signal, sys
from sg_local import run as room
from sg_local.cli import main

kind, name, left = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
append, replace = room.Run.append, os.replace

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def due(this_kind, this_name):
    global left
    left -= (this_kind, this_name) == (kind, name)
    return left == 0

def append_and_die(self, journal, rows):
    rows = list(rows)
    if rows and due("append", journal):
        append(self, journal, rows[: len(rows) // 2])
        with open(self.path(journal), "ab") as file:
            file.write(b'{"id": "tor')
            file.flush()
            os.fsync(file.fileno())
        die()
    append(self, journal, rows)

def replace_or_die(source, target, **more):
    if due("replace", os.path.basename(target)):
        die()
    replace(source, target, **more)

room.Run.append, os.replace = append_and_die, replace_or_die
main(sys.argv[1:])
"""


def sg_local(folder: Path, *args: str, deadly: tuple[str, str, int] | None = None) -> int:
    """The exit status of the command in its own process; negative: the signal that ended it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SG_LOCAL_")}
    code = DEADLY if deadly else "import sys; from sg_local.cli import main; main(sys.argv[1:])"
    words = [str(word) for word in deadly or ()]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, *args],
        cwd=folder,
        env={**kept, "SG_LOCAL_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


POINTS = [
    ("append", "inputs.jsonl", 1),
    ("append", "inputs.jsonl", 3),
    ("append", "candidates.jsonl", 1),
    ("append", "candidates.jsonl", 2),
    ("append", "verdicts.jsonl", 1),
    ("replace", "filter.json", 1),
    ("replace", "train.jsonl", 1),
    ("append", "answers.jsonl", 2),
    ("replace", "report.json", 1),
]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert sg_local(folder, *SCRIPTED) == 0
    return result_of(folder)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: "-".join(map(str, point)))
def test_a_killed_job_goes_on_to_the_same_end(uninterrupted, tmp_path, point):
    assert sg_local(tmp_path, *SCRIPTED, deadly=point) == -signal.SIGKILL
    assert sg_local(tmp_path, *SCRIPTED) == 0
    assert result_of(tmp_path) == uninterrupted


REAL_POINTS = [
    ("append", "inputs.jsonl", 2),
    ("append", "candidates.jsonl", 2),
    ("replace", "checkpoint.npz", 2),
    ("replace", "export.json", 1),
    ("append", "answers.jsonl", 3),
]


TRAIN = """
import json, os, signal, sys
from pathlib import Path
from sg_local.backends import TrainSettings, open_trainer
from sg_local.records import TokenExample

trainer, model, out, last = sys.argv[1:]
rows = [TokenExample(str(i), (*range(3, 27), *(30 + (i + k) % 200 for k in range(5 + i % 5))), 26) for i in range(15)]
settings = TrainSettings(rank=4, alpha=8.0, lr=1e-3, batch_size=4, dropout=0.1, valid_every=4, checkpoint_every=3)

def die(step):
    if step.step == int(last):
        os.kill(os.getpid(), signal.SIGKILL)

open_trainer(trainer, Path(model)).train(rows[:12], rows[12:], Path(out), settings, die)
"""


@pytest.mark.parametrize("trainer", ["torch", "mlx"])
def test_a_killed_trainer_goes_on_to_the_same_bytes(tmp_path, trainer):
    pytest.importorskip({"torch": "torch", "mlx": "mlx_lm"}[trainer])
    spec = tiny_models.TinySpec(type="F32", head_type="F32", width=64, ffn=128)
    model = tiny_models.write_model(tmp_path / "tiny.gguf", spec)

    def train(out: str, last: int) -> int:
        line = [sys.executable, "-c", TRAIN, trainer, str(model), str(tmp_path / out), str(last)]
        return subprocess.run(line, capture_output=True, check=False).returncode

    assert train("once", -1) == 0
    assert [train("often", last) for last in (4, 8, -1)] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    for path in (tmp_path / "once").rglob("*"):
        if path.suffix in (".gguf", ".safetensors"):
            assert (tmp_path / "often" / path.relative_to(tmp_path / "once")).read_bytes() == path.read_bytes(), path


@pytest.mark.faults
@pytest.mark.slow
def test_the_whole_job_on_real_weights_killed_in_every_stage(embedded, tmp_path):
    once, often = tmp_path / "once", tmp_path / "often"
    for folder in (once, often):
        folder.mkdir()
    assert sg_local(once, *REAL) == 0
    for point in REAL_POINTS:
        assert sg_local(often, *REAL, deadly=point) == -signal.SIGKILL, point
    assert sg_local(often, *REAL) == 0
    assert result_of(often) == result_of(once)
    report = json.loads((once / "runs" / "trial" / "report.json").read_text())
    assert report["n"] == 12
    for system in ("base", "base_vote", "tuned"):
        assert 0 <= report[system]["low"] <= report[system]["score"] <= report[system]["high"] <= 100
    assert {"synth", "filter", "train", "export"} <= set(report["stages"])
    fused = report["export"]["fused"][0]
    assert fused["passed"] and (once / "runs" / "trial" / fused["file"]).is_file()
