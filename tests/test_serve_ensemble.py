"""Labels by direct and channel scores: their sum, what is taken off, and that no input changes another's answer."""

from __future__ import annotations

import pytest

from sg_local import prompts
from sg_local.backends.scripted import TEMPLATE, ScriptedGenerator
from sg_local.channel import channel_scores, orders_of
from sg_local.prompts import TooLong, continue_input_prompt
from sg_local.records import Pair, Score
from sg_local.serve import Answerer, Ensemble, Question, answer_rows

FORM = prompts.forms(TEMPLATE, eos="<|im_end|>")[0]
TEXTS = [f"text {i}" for i in range(70)]


class Engine(ScriptedGenerator):
    """Scores by a rule, so that sums can be worked out; gives everything back the wrong way round."""

    def __init__(self, tmp_path) -> None:
        super().__init__(tmp_path / "engine.gguf", lambda prompt, rng: "")
        self.channel: list[str] = []

    def score(self, prompts):
        yield from reversed([Score(prompt.id, tuple(self._scores(prompt))) for prompt in prompts])

    def _scores(self, prompt):
        text = "".join(segment.text for segment in prompt.segments)
        for said in prompt.continuations:
            if text.endswith("\nInput:"):
                self.channel.append(text)
                yield channel(said.strip(), text)
            else:
                asked = text.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
                yield direct(asked, said.strip())


def direct(text, label):
    return -float(len(label)) - (len(text) % 3) / 10


def channel(text, prompt):
    """Depends on the input, on the label and on the demonstration that comes first."""
    label = prompt.rpartition("Output: ")[2].partition("\n")[0]
    first = prompt.partition("Output: ")[2].partition("\n")[0]
    return -float(sum(map(ord, text + label)) % 97) - len(first) / 7


@pytest.fixture
def who(tmp_path, routing):
    return Answerer(Engine(tmp_path), routing, FORM)


def way_of(task, means=()):
    return Ensemble(orders_of(task.examples), means)


def answers(who, way, texts):
    return list(answer_rows(who, way, [Question(text) for text in texts]))


def expected(task, text):
    orders = orders_of(task.examples)
    prompts_of = {
        label: ["".join(s.text for s in continue_input_prompt(task, o, label)) for o in orders] for label in task.labels
    }
    return [
        direct(text, label) + sum(channel(text, prompt) for prompt in prompts_of[label]) / len(orders)
        for label in task.labels
    ]


def test_scores_are_the_direct_one_and_the_mean_of_the_channel_s_orders(who):
    found = answers(who, way_of(who.task), TEXTS)
    for text, answer in zip(TEXTS, found, strict=True):
        assert answer.scores == pytest.approx(expected(who.task, text))
        assert answer.text == who.task.labels[answer.scores.index(max(answer.scores))]
    assert len({answer.text for answer in found}) > 1


def test_the_channel_alone_scores_as_it_does_beside_the_direct_scores(who):
    way, task = way_of(who.task), who.task
    texts = [*TEXTS, long_text(who, 1)]
    alone = channel_scores(who.generator, way.channel(who), texts)
    both = [answer.scores for answer in answers(who, way, texts)]
    for text, one, other in zip(texts, alone, both, strict=True):
        assert [total - direct(text.strip(), label) for total, label in zip(other, task.labels, strict=True)] == (
            pytest.approx(list(one))
        )


def test_means_are_taken_off(who):
    plain, centred = (answers(who, way_of(who.task, means), TEXTS[:5]) for means in ((), (1.0, -20.0, 3.0)))
    for one, other in zip(plain, centred, strict=True):
        less = [score - mean for score, mean in zip(one.scores, (1.0, -20.0, 3.0), strict=True)]
        assert other.scores == pytest.approx(less)


def long_text(who, n_shown):
    """A text behind which so many demonstrations fit and no more."""
    way = way_of(who.task)
    for n in range(1, 10_000):
        try:
            if way.channel(who).placed(0, "parcel " * n).n_shown == n_shown:
                who.ask("parcel " * n, id="")  # its own prompt fits, too
                return "parcel " * n
        except TooLong:
            break
    raise AssertionError("no such text")


def test_an_input_is_answered_alike_alone_and_among_others(who):
    texts = [*TEXTS[:3], long_text(who, 1), "", "parcel " * 40_000, *TEXTS[3:6]]
    together = answers(who, way_of(who.task), texts)
    assert [one.failed is None for one in together] == [True, True, True, True, True, False, True, True, True]
    alone = [answers(who, way_of(who.task), [text])[0] for text in texts]
    assert [one.scores for one in together] == [one.scores for one in alone]


def test_a_long_input_is_scored_behind_fewer_demonstrations(who):
    answers(who, way_of(who.task), [long_text(who, 1)])
    assert {prompt.count("Input: ") for prompt in who.generator.channel} == {1}


def test_orders_begin_at_each_demonstration_in_turn():
    a, b, c, d = (Pair(x, x) for x in "abcd")
    assert orders_of((a, b)) == ((a, b), (b, a))
    assert orders_of((a, b, c, d)) == ((a, b, c, d), (b, c, d, a), (c, d, a, b))
