"""What the trainers share: batches, schedule, starting values, prefix, normaliser."""

import dataclasses

import numpy as np
import pytest

from sg_local.backends import TrainSettings
from sg_local.backends.training.lora import (
    BatchPlan,
    adapted_layers,
    check_settings,
    dropout_seed,
    init_a,
    learning_rate,
    micro_batches,
    normaliser,
    plan_batches,
    shared_prefix,
)
from sg_local.records import SgError, TokenExample


def example(tokens: str, n_prompt: int, weight: float = 1.0) -> TokenExample:
    return TokenExample(tokens, tuple(map(ord, tokens)), n_prompt, weight)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("abcX", 3), ("abdY", 3)], 2),
        ([("abcX", 3), ("abcY", 3)], 2),
        ([("aX", 1), ("aY", 1)], 0),
        ([("abcX", 3)], 2),
        ([("xbcX", 3), ("abcY", 3)], 0),
        ([("abcdefX", 6), ("abX", 2)], 1),
        ([], 0),
    ],
)
def test_the_shared_prefix_leaves_every_row_its_last_prompt_token(rows: list, expected: int) -> None:
    assert shared_prefix([example(*row) for row in rows]) == expected


@pytest.mark.parametrize(("n_rows", "step_rows"), [(1, 8), (8, 8), (61, 8), (200, 3)])
def test_every_epoch_takes_every_row_once(n_rows: int, step_rows: int) -> None:
    plan = BatchPlan(tuple(i * 7 % 31 for i in range(n_rows)), step_rows, seed=5)
    for epoch in (0, 1):
        first = epoch * plan.steps_per_epoch
        taken = [plan.rows(step) for step in range(first, first + plan.steps_per_epoch)]
        assert sorted(row for rows in taken for row in rows) == list(range(n_rows))
        assert max(map(len, taken)) <= step_rows


def test_steps_can_be_asked_for_in_any_order() -> None:
    plan, again = (BatchPlan(tuple(range(50)), 8, seed=1) for _ in range(2))
    forward = [plan.rows(step) for step in range(20)]
    assert [again.rows(step) for step in reversed(range(20))] == forward[::-1]


def test_the_order_follows_seed_and_epoch() -> None:
    plan, other = BatchPlan(tuple(range(50)), 8, seed=1), BatchPlan(tuple(range(50)), 8, seed=2)
    assert plan.rows(0) != plan.rows(plan.steps_per_epoch)
    assert plan.rows(0) != other.rows(0)


def test_rows_of_like_length_meet() -> None:
    lengths = tuple(np.random.default_rng(0).integers(10, 500, 64).tolist())
    plan = BatchPlan(lengths, 8, seed=0)
    spread = [max(lengths[i] for i in plan.rows(s)) - min(lengths[i] for i in plan.rows(s)) for s in range(8)]
    assert np.mean(spread) < 120


def test_accumulation_takes_the_rows_of_one_large_batch() -> None:
    rows = [example("abc" + "x" * (i % 5 + 1), 3) for i in range(40)]
    whole = plan_batches(rows, TrainSettings(batch_size=8))
    parts = plan_batches(rows, TrainSettings(batch_size=2, grad_accumulation=4))
    assert whole.rows(3) == parts.rows(3)
    assert [row for part in micro_batches(parts.rows(3), 2) for row in part] == list(whole.rows(3))


@pytest.mark.parametrize(("epochs", "n_steps"), [(1.0, 5), (2.5, 12), (0.01, 1)])
def test_epochs_may_be_fractions(epochs: float, n_steps: int) -> None:
    assert BatchPlan((1,) * 40, 8, 0).n_steps(epochs) == n_steps


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1.0, 1.0, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806]),
    ],
)
def test_the_rate_rises_over_the_warm_up_and_falls_to_zero(schedule: str, expected: list) -> None:
    settings = TrainSettings(lr=1.0, warmup=0.2, schedule=schedule)
    assert [learning_rate(step, 10, settings) for step in range(10)] == pytest.approx(expected, abs=1e-5)


def test_starting_values_depend_on_seed_and_name_alone() -> None:
    a = init_a("blk.0.attn_q.weight", 4, 64, seed=1)
    assert (a == init_a("blk.0.attn_q.weight", 4, 64, seed=1)).all()
    assert (a != init_a("blk.1.attn_q.weight", 4, 64, seed=1)).any()
    assert a.dtype == np.float32
    assert 0.1 < np.abs(a).max() <= 0.125


def test_dropout_draws_anew_for_each_step_and_part() -> None:
    assert len({dropout_seed(0, step, micro) for step in range(10) for micro in range(4)}) == 40


def test_the_normaliser_counts_weighted_answer_tokens() -> None:
    assert normaliser([example("abcXY", 3, 2.0), example("abcX", 3, 0.5)]) == 4.5


def test_the_last_layers_are_adapted() -> None:
    assert list(adapted_layers(6, TrainSettings(n_layers=2))) == [4, 5]
    assert list(adapted_layers(3, TrainSettings())) == [0, 1, 2]
    assert list(adapted_layers(3, TrainSettings(layer_share=0.5))) == [1, 2]
    assert list(adapted_layers(30, TrainSettings(layer_share=0.01))) == [29]
    with pytest.raises(SgError, match="the model has 3"):
        adapted_layers(3, TrainSettings(n_layers=4))


@pytest.mark.parametrize(
    "bad",
    [{"rank": 0}, {"schedule": "step"}, {"warmup": 1.0}, {"lr": 0.0}, {"time_s": 0.0}, {"dropout": 1.0}],
    ids=str,
)
def test_a_setting_out_of_range_is_named(bad: dict) -> None:
    with pytest.raises(SgError, match=next(iter(bad))) as caught:
        check_settings(dataclasses.replace(TrainSettings(), **bad))
    assert caught.value.exit_code == 2
