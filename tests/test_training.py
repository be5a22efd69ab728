"""The training stage: tokens, split, warnings, stamps; test_torch and test_mlx hold the trainers themselves."""

import dataclasses
from pathlib import Path

import pytest

from sg_local.backends import TrainSettings
from sg_local.backends.scripted import ScriptedGenerator, ScriptedTrainer
from sg_local.backends.training.checkpoint import TrainJob
from sg_local.prompts import PLAIN
from sg_local.records import Pair, Segment, SgError, Task
from sg_local.run import Run
from sg_local.training import (
    CURVE,
    Training,
    TrainingRow,
    prepare,
    reset,
    token_examples,
    train,
    warnings_of,
)
from sg_local.validation import shares, split_rows

TASK = Task("route", "classification", "Route it.", (Pair("my parcel", "delivery"),), ("billing", "delivery"))


@pytest.fixture
def job(tmp_path: Path) -> Training:
    model = tmp_path / "base.gguf"
    model.write_bytes(b"base")
    rows = tuple(TrainingRow(f"r{i}", f"message {i}", TASK.labels[i % 2]) for i in range(40))
    return Training(
        Run(tmp_path / "run"),
        TASK,
        dataclasses.replace(PLAIN, eos="<|im_end|>"),
        ScriptedGenerator(model),
        ScriptedTrainer(model),
        rows,
        TrainSettings(),
    )


@pytest.mark.parametrize(
    ("labels", "n_valid"),
    [(19, 0), (20, 4), (40, 4), (100, 10), (1000, 100)],
)
def test_a_tenth_validates_but_never_of_a_tiny_set(labels: int, n_valid: int) -> None:
    split = split_rows([""] * labels, seed=1)
    assert len(split.valid) == n_valid
    assert sorted((*split.train, *split.valid)) == list(range(labels))


def test_labels_validate_in_proportion_and_every_label_still_trains() -> None:
    labels = ["a"] * 60 + ["b"] * 39 + ["c"]
    split = split_rows(labels, seed=3)
    count = {label: sum(labels[i] == label for i in split.valid) for label in "abc"}
    assert count == {"a": 6, "b": 4, "c": 0}


@pytest.mark.parametrize(
    ("sizes", "wanted", "given"),
    [
        ({"a": 10, "b": 10}, 4, {"a": 2, "b": 2}),
        ({"a": 1, "b": 19}, 4, {"a": 0, "b": 4}),
        ({"a": 1, "b": 1}, 4, {"a": 0, "b": 0}),
        ({"a": 13, "b": 7}, 4, {"a": 3, "b": 1}),
    ],
)
def test_shares_are_proportional(sizes: dict, wanted: int, given: dict) -> None:
    assert shares(sizes, wanted) == given


def test_the_split_follows_the_seed() -> None:
    labels = [""] * 100
    assert split_rows(labels, 1) == split_rows(labels, 1) != split_rows(labels, 2)


def test_loss_begins_at_the_answer_and_ends_with_end_of_sequence(job: Training) -> None:
    example = token_examples(job)[0]
    prompt = "Route it.\n\nInput: my parcel\nOutput: delivery\n\nInput: message 0\nOutput:"
    assert example.n_prompt == len(_words(job, prompt))
    assert list(example.tokens[example.n_prompt :]) == [*_words(job, " billing"), _words(job, "<|im_end|>")[-1]]


def _words(job: Training, text: str) -> tuple[int, ...]:
    return job.generator.tokenize((Segment(text),))


def test_a_demonstration_that_trains_is_not_shown_itself(job: Training) -> None:
    rows = (TrainingRow("own", "my parcel", "delivery"), *job.rows[:3])
    own, other, *_ = token_examples(dataclasses.replace(job, rows=rows))
    assert own.n_prompt == len(_words(job, "Route it.\n\nInput: my parcel\nOutput:"))
    assert other.n_prompt > own.n_prompt


def test_rows_beyond_the_context_are_named_not_trained(job: Training) -> None:
    long = TrainingRow("long", "word " * 3000, "billing")
    sets = prepare(dataclasses.replace(job, rows=(*job.rows, long)))
    assert sets.dropped == ("long",)
    assert len(sets.train) + len(sets.valid) == 40


def test_too_few_rows_stop_with_the_minimum(job: Training) -> None:
    with pytest.raises(SgError, match=r"at least 3 rows; 2 are kept"):
        prepare(dataclasses.replace(job, rows=job.rows[:2]))


def test_a_model_without_end_of_sequence_is_refused(job: Training) -> None:
    job.generator.info = dataclasses.replace(job.generator.info, eos="")
    with pytest.raises(SgError, match="names no end-of-sequence token"):
        token_examples(job)


def test_a_finished_stage_is_read_back_and_not_run_again(job: Training) -> None:
    first = train(job)
    job.trainer.train = None
    assert train(job) == first
    assert job.run.path("adapter.gguf").exists()
    assert (first.n_train, first.n_valid, first.curve[0][0]) == (36, 4, 1)


def test_other_settings_stop_and_a_reset_starts_again(job: Training) -> None:
    train(job)
    other = dataclasses.replace(job, settings=dataclasses.replace(job.settings, lr=1e-3))
    with pytest.raises(SgError, match="lr"):
        train(other)
    reset(job.run)
    assert train(other).adapter.trainer == "scripted"


def test_an_adapter_for_another_base_never_reaches_the_run(job: Training, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"other")
    with pytest.raises(SgError, match="is not the run's"):
        train(dataclasses.replace(job, trainer=ScriptedTrainer(other)))
    assert not job.run.path("adapter.gguf").exists()


@pytest.mark.parametrize(
    ("n_train", "valid_losses", "words"),
    [
        (100, [2.0, 1.5, 1.6], []),
        (29, [2.0, 1.5], ["Only 29 rows"]),
        (100, [2.0, 2.1, 2.3], ["rose from the start"]),
        (100, [], []),
    ],
)
def test_warnings_tell_small_sets_and_rising_loss(n_train: int, valid_losses: list, words: list) -> None:
    curve = [(i, 1.0, loss) for i, loss in enumerate(valid_losses)]
    found = warnings_of(n_train, curve)
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_a_damaged_curve_is_named_by_its_line(job: Training) -> None:
    job.run.path("adapter").mkdir(parents=True)
    job.run.path(CURVE).write_text('{"step": "x"}\n')
    with pytest.raises(SgError, match=r"curve\.jsonl:1: TrainStep: step is not a whole number"):
        train(job)


def test_a_checkpoint_of_before_is_of_all_layers_or_of_a_number(tmp_path):
    def identity(**settings) -> dict[str, str]:
        return TrainJob([], [], tmp_path, TrainSettings(**settings), "", "torch").identity()

    assert "layer_share" not in identity() and "layer_share" not in identity(n_layers=2, layer_share=0.5)
    assert identity(layer_share=0.5) != identity()
