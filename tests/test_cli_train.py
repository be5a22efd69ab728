"""Training on the command line: a time budget, what is shown meanwhile, what is left out, jobs for other launchers."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from tiny_models import TinySpec, write_model

from sg_local import training
from sg_local.backends import TrainSettings
from sg_local.backends.training.handover import Handover, read_job, write_job
from sg_local.cli.app import app
from sg_local.cli.options import Duration
from sg_local.console.live import sparkline
from sg_local.records import SgError, TokenExample, TrainStep
from sg_local.run import Run
from sg_local.views.progress import TrainingView


@pytest.fixture
def made(own_folder):
    """A run with kept pairs, not trained yet."""
    run("synth", "support_routing", "--backend", "scripted", "--name", "r", "--set", "synth.n_inputs=40")
    run("filter", "r")
    return Run(own_folder / "runs" / "r")


def run(*args: str, code: int = 0):
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.mark.parametrize(
    ("text", "seconds"), [("20m", 1200), ("90s", 90), ("1h30m", 5400), ("2h", 7200), ("5 min", 300)]
)
def test_lengths_of_time_are_read_as_people_write_them(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "20", "5x", "m", "0s", "-5m", "1m2h"])
def test_what_is_no_length_of_time_is_refused_with_an_example(made, text: str) -> None:
    assert "Write it like 20m" in run("train", "r", f"--time={text}", code=2).stderr


def test_a_time_budget_reaches_the_trainer_and_is_remembered(made) -> None:
    run("train", "r", "--time", "20m")
    assert made.stamp("train")["settings"]["time_s"] == 1200.0
    assert "already finished" in run("train", "r").stderr


def test_run_takes_a_time_budget_too(made) -> None:
    line = ("run", "support_routing", "--backend", "scripted", "--yes", "--name", "r", "--set", "eval.resamples=50")
    run(*line, "--time", "3m")
    assert 120 < made.stamp("train")["settings"]["time_s"] <= 180  # what the stages before it took is gone


def test_the_trainer_says_what_it_computes_on_and_which_step_was_kept(made) -> None:
    told = run("train", "r").stderr
    assert "trainer: scripted" in told and "best at step" in told


def test_rows_beyond_the_context_are_counted_and_named(made, monkeypatch) -> None:
    plain = training.token_examples

    def with_long_ones(job: training.Training) -> list:
        return [None, None, *plain(job)[2:]]

    monkeypatch.setattr(training, "token_examples", with_long_ones)
    told = run("train", "r").stderr
    ids = made.stamp("train")["dropped"]
    assert f"left out, longer than the model's context: 2 rows ({ids[0]}, {ids[1]})" in told


def test_a_prepared_job_holds_what_the_trainer_would_get(made) -> None:
    result = run("train", "r", "--prepare", "--set", "epochs=2")
    job = read_job(made.path("adapter"))
    assert result.stdout.strip().endswith("adapter") and "torchrun" in result.stderr
    assert job.settings.epochs == 2.0
    assert {row.id for row in (*job.train, *job.valid)} <= {
        json.loads(line)["id"] for line in made.path("candidates.jsonl").read_text().splitlines()
    }
    assert made.stamp("train") is None


def steps(losses, valid) -> list[TrainStep]:
    return [TrainStep(i, 9, 0.1 * i, loss, 1e-4, 500.0, 2_000_000_000, valid.get(i)) for i, loss in enumerate(losses)]


def test_the_validation_loss_stays_between_its_rounds_with_the_best_step() -> None:
    view = TrainingView()
    shown = [view.take(step) for step in steps([2.0, 1.5, 1.2, 1.1], {0: 2.0, 2: 1.25})][-1]
    assert shown.facts == {
        "loss": "1.100",
        "validation": "1.250 (best 1.250 at step 2)",
        "tokens/s": "500",
        "memory": "2.0 GB",
    }
    assert dict(shown.curves) == {"loss": (1.5, 1.2, 1.1), "validation": (2.0, 1.25)}


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [((3.0, 2.0, 1.0), 9, "█▅▁"), ((1.0, 1.0), 9, "▁▁"), ((8.0, 8.0, 4.0, 4.0, 0.0, 0.0), 3, "█▅▁")],
)
def test_a_curve_is_drawn_between_its_least_and_its_most(values, width, drawn) -> None:
    assert sparkline(values, width) == drawn


def test_a_model_is_shown_with_the_memory_that_training_takes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    path = write_model(tmp_path / "m.gguf", TinySpec())
    assert "training, CPU" in run("models", "show", str(path)).stdout
    found = json.loads(run("models", "show", str(path), "--json").stdout)["training"]
    assert set(found) == {"CPU", "CUDA"} and all(n > 1 << 28 for n in found.values())


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("job.json", "{", "job.json:1: this is not JSON"),
        ("job.json", "[]", "job.json: JobFile: is not an object"),
        (
            "job.json",
            '{"model": "m", "settings": {"rank": "x"}}',
            "settings.rank is not a whole number",
        ),
        ("train.jsonl", "\n{}\n", "train.jsonl:2: TokenExample: id is missing"),
        ("valid.jsonl", "[" * 100_000, "valid.jsonl:1: this is not JSON (more than"),
        ("valid.jsonl", None, "valid.jsonl is missing"),
    ],
)
def test_a_damaged_job_is_named_by_its_file_and_line(tmp_path, name, data, words) -> None:
    write_job(tmp_path, Handover(tmp_path / "m.gguf", (TokenExample("a", (1, 2), 1),), (), TrainSettings()))
    assert read_job(tmp_path).train[0].tokens == (1, 2)
    (tmp_path / name).write_text(data) if data is not None else (tmp_path / name).unlink()
    with pytest.raises(SgError) as caught:
        read_job(tmp_path)
    assert words in caught.value.message and name in caught.value.message and "prepare" in caught.value.hint
