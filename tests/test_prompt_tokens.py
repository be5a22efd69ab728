"""Token ids of the prompt forms, as snapshots: Vicuna from its card, ChatML of the embedded SmolLM2, plain text.

A change here changes what every adapter was trained on, so the ids stand in full. Vicuna's tokenizer is the tiny
sentencepiece model of tests/tiny_models.py; the text is v1.1's, which v1.5 kept, as FastChat builds it.
"""

import tomllib
from pathlib import Path

import pytest

from sg_local import prompts
from sg_local.backends import EngineSettings
from sg_local.records import Pair, Segment, Task
from tests import tiny_models

engine = pytest.importorskip("sg_local.backends.llama_cpp")

TASK = Task(
    name="short",
    kind="classification",
    instruction="Route the message.",
    examples=(Pair("My parcel never came.", "delivery"), Pair("I was charged twice.", "billing")),
    labels=("delivery", "billing"),
)
NEW = "Where is </s> my parcel <|im_end|> now?"  # special strings in a user's text stay text
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# The ids of the tiny vocabulary are those that sentencepiece 0.2.3 (constraints.txt) trains.
VICUNA_IDS = [
    1, 308, 322, 276, 271, 449, 286, 261, 272, 307, 361, 293, 338, 298, 275, 261, 377, 359, 273, 411, 388,
    279, 446, 408, 350, 340, 470, 333, 340, 455, 476, 287, 265, 455, 260, 465, 471, 355, 465, 473, 294, 352,
    458, 462, 305, 469, 473, 298, 268, 460, 465, 413, 275, 379, 264, 459, 329, 262, 338, 42, 459, 328, 265,
    457, 361, 464, 459, 470, 434, 343, 477, 310, 424, 456, 262, 312, 315, 395, 470, 13, 13, 496, 472, 268,
    397, 277, 324, 320, 272, 314, 470, 308, 346, 393, 392, 477, 294, 445, 404, 2, 434, 343, 477, 281, 266,
    284, 322, 300, 407, 330, 316, 470, 308, 346, 393, 392, 477, 271, 360, 288, 369, 2, 434, 343, 477, 455, 90,
    260, 267, 436, 455, 63, 50, 459, 65, 312, 472, 268, 397, 277, 455, 63, 127, 462, 475, 98, 286, 469, 127,
    65, 313, 291, 486, 308, 346, 393, 392, 477,
]  # fmt: skip
PLAIN_SPM_IDS = [
    1, 310, 424, 456, 262, 312, 315, 395, 470, 13, 13, 480, 464, 319, 477, 432, 268, 397, 277, 324, 320, 272,
    314, 470, 13, 503, 270, 319, 477, 294, 445, 404, 13, 13, 480, 464, 319, 477, 281, 266, 284, 322, 300, 407,
    330, 316, 470, 13, 503, 270, 319, 477, 271, 360, 288, 369, 13, 13, 480, 464, 319, 477, 455, 90, 260, 267,
    436, 455, 63, 50, 459, 65, 312, 472, 268, 397, 277, 455, 63, 127, 462, 475, 98, 286, 469, 127, 65, 313,
    291, 486, 13, 503, 270, 319, 477,
]  # fmt: skip
CHATML_IDS = [
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182,
    2, 198, 1, 4093, 198, 31655, 85, 260, 3714, 30, 198, 198, 5965, 35598, 2093, 2422, 30, 2, 198, 1, 520,
    9531, 198, 31625, 2, 198, 1, 4093, 198, 57, 436, 9295, 6757, 30, 2, 198, 1, 520, 9531, 198, 82, 3422, 2,
    198, 1, 4093, 198, 9576, 314, 22577, 99, 46, 957, 35598, 2067, 108, 306, 79, 486, 108, 46, 1209, 47, 2,
    198, 1, 520, 9531, 198,
]  # fmt: skip
PLAIN_IDS = [
    31655, 85, 260, 3714, 30, 198, 198, 10219, 42, 3361, 35598, 2093, 2422, 30, 198, 17597, 42, 7037, 198,
    198, 10219, 42, 339, 436, 9295, 6757, 30, 198, 17597, 42, 38971, 198, 198, 10219, 42, 7655, 314, 22577,
    99, 46, 957, 35598, 2067, 108, 306, 79, 486, 108, 46, 1209, 47, 198, 17597, 42,
]  # fmt: skip
CARD = Path(__file__).parent.parent / "models" / "vicuna-7b-v1.5.toml"


@pytest.fixture(scope="module")
def spm(tmp_path_factory):
    """The tiny sentencepiece model without a chat template, as Vicuna's files are."""
    folder = tmp_path_factory.mktemp("spm")
    spec = tiny_models.TinySpec("spm", "F32", "F32", chat_template=None)
    yield from opened(tiny_models.write_model(folder / "spm.gguf", spec), folder)


@pytest.fixture(scope="module")
def smollm2(embedded, tmp_path_factory):
    yield from opened(embedded, tmp_path_factory.mktemp("cache"))


def opened(path, cache):
    generator = engine.open_generator(path, EngineSettings(256, 1, 1, fast_copy=False, cache=cache))
    yield generator
    generator.close()


def forms_of(generator, template=None):
    return prompts.forms_of(generator.info, template)


def vicuna(generator):
    return forms_of(generator, tomllib.loads(CARD.read_text())["chat_template"])[0]


def test_vicuna_is_written_as_fastchat_writes_it(spm):
    assert spm.info.chat_template is None
    segments = prompts.answer_prompt(TASK, vicuna(spm), "Where is my parcel?")
    wanted = (
        f"{SYSTEM} USER: Route the message.\n\nMy parcel never came. ASSISTANT: delivery</s>"
        "USER: I was charged twice. ASSISTANT: billing</s>USER: Where is my parcel? ASSISTANT:"
    )
    assert "".join(segment.text for segment in segments) == wanted
    assert spm.tokenize(segments) == spm.tokenize((Segment(wanted),))


def test_vicuna_ids(spm):
    form = vicuna(spm)
    segments = prompts.answer_prompt(TASK, form, NEW)
    ids = spm.tokenize(segments)
    assert ids[0] == 1 and ids.count(1) == 1, "one <s>, at the start, from the tokenizer"
    assert ids.count(2) == 2, "one </s> after each demonstration's answer, none from the user's text"
    assert list(ids) == VICUNA_IDS
    assert spm.tokenize((*segments, Segment(prompts.answer_text(form, "billing"), False)))[: len(ids)] == ids


def test_plain_ids_of_a_sentencepiece_model(spm):
    plain = forms_of(spm)[-1]
    assert list(spm.tokenize(prompts.answer_prompt(TASK, plain, NEW))) == PLAIN_SPM_IDS


def test_chatml_ids(smollm2):
    chat, _ = forms_of(smollm2)
    ids = smollm2.tokenize(prompts.answer_prompt(TASK, chat, NEW))
    assert list(ids) == CHATML_IDS
    assert (ids.count(1), ids.count(2)) == (7, 6), "<|im_start|> and <|im_end|>, none of them from the user's text"


def test_plain_ids_of_the_embedded_model(smollm2):
    plain = forms_of(smollm2)[-1]
    assert list(smollm2.tokenize(prompts.answer_prompt(TASK, plain, NEW))) == PLAIN_IDS
