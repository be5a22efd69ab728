"""The recorded screens in docs/screens: small, of no machine, fetching nothing; and the code that records them runs."""

from __future__ import annotations

import os
import re

import pytest
import screens
from click.testing import CliRunner

from sg_local.cli.app import app
from sg_local.run import Run

RECORDED = sorted(screens.SCREENS.glob("*.svg"))
LARGEST = 150_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run of the scripted backend."""
    folder = tmp_path_factory.mktemp("finished")
    line = ["run", "support_routing", "--backend", "scripted", "--yes", "--name", "trial", "--runs", f"{folder}/runs"]
    done = CliRunner().invoke(
        app,
        [*line, "--set", "synth.n_inputs=60", "--set", "eval.resamples=50"],
        env={"SG_LOCAL_HOME": str(folder / "home")},
    )
    assert done.exit_code == 0, done.output
    return folder


def is_clean(text):
    """True when the picture fetches nothing and names no folder of a machine."""
    text = text.replace("http://www.w3.org/2000/svg", "").replace("https://www.textualize.io", "")
    return not re.search(r"https?:|url\((?!#)|/(tmp|root|home|work|usr)/", text)


def test_every_screen_is_recorded():
    assert {path.stem for path in RECORDED} == {"review", "thresholds", "doctor", "run", "verdict", "half_way"}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_screen_is_small_and_of_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < LARGEST and is_clean(text) and text.startswith("<svg")


def test_the_review_is_recorded_by_driving_it(finished, monkeypatch):
    monkeypatch.setitem(screens.pyte.graphics.TEXT, 2, "+strikethrough")
    made = dict(screens.review(finished, "trial"))
    assert set(made) == {"review", "thresholds"} and all(map(is_clean, made.values()))
    assert "not&#160;judged" in made["review"] and "was&#160;0.7" in made["thresholds"]
    assert re.search(r"opacity|fill: #[0-9a-f]{6}", made["review"])


def test_a_finished_run_is_drawn_from_its_folder(finished, monkeypatch):
    monkeypatch.chdir(finished)
    made = dict(screens.finished(Run(screens.Path("runs/trial"))))
    assert set(made) == {"run", "verdict"} and all(map(is_clean, made.values()))
    assert "✔" in made["run"] and ">synth" in made["run"] and "gain&#160;of" in made["verdict"]
    assert os.path.commonprefix(list(made.values())).startswith("<svg")
