"""The model cards that ship: each says where its GGUF is, and Vicuna's template is Vicuna's format to the byte."""

import re
import tomllib
from pathlib import Path

import pytest

from sg_local.models import quantisation
from sg_local.prompts import Form, render

FILES = sorted((Path(__file__).parent.parent / "models").glob("*.toml"))
ARCHITECTURES = {"llama", "qwen3", "gemma3", "smollm3", "phi3", "granite", "mistral3"}
WANTED = {
    *("smollm2-135m-instruct", "smollm2-360m-instruct", "smollm2-1.7b-instruct", "smollm3-3b"),
    *("qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b"),
    *("gemma-3-270m-it", "gemma-3-1b-it", "gemma-3-4b-it"),
    *("llama-3.2-1b-instruct", "llama-3.2-3b-instruct", "llama-3.1-8b-instruct"),
    *("phi-4-mini-instruct", "granite-4.0-micro", "ministral-3-3b-instruct"),
    *("tinyllama-1.1b-chat", "mistral-7b-instruct-v0.3", "vicuna-7b-v1.5", "vicuna-13b-v1.5"),
}
VICUNAS = ["vicuna-7b-v1.5", "vicuna-13b-v1.5"]
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def card(path):
    return load(path)


def load(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


def vicuna(messages, generation=True):
    template = load(next(path for path in FILES if path.stem == VICUNAS[0]))["chat_template"]
    form = Form("chat", template, bos="<s>", eos="</s>", lead=" ")
    turns = [{"role": role, "content": content} for role, content in messages]
    return "".join(segment.text for segment in render(form, turns, generation=generation))


def test_the_name_is_the_file_stem(path, card):
    assert card["name"] == path.stem
    assert card["summary"] and "\n" not in card["summary"]


def test_the_facts_are_there(card):
    assert card["architecture"] in ARCHITECTURES
    assert card["parameters"] > 1e8
    assert 10 < card["layers"] < 100
    assert card["n_ctx"] >= 2048
    assert card["licence"] and re.fullmatch(r"[\w.-]+/[\w.-]+", card["original"])
    assert card["template"] and card["stops"]


def test_what_laptops_run_is_on_the_shelf():
    assert {path.stem for path in FILES} >= WANTED


def test_the_source_is_one_gguf_in_a_package_or_on_the_hub(card):
    source = card["source"]
    assert ("package" in source) != ("repo" in source)
    assert source["file"].endswith(".gguf")
    assert "repo" not in source or re.fullmatch(r"[\w.-]+/[\w.-]+", source["repo"])


def test_each_file_states_its_quantisation(card):
    source = card["source"]
    files = source.get("files", {})
    assert all(quantisation(file) == name for name, file in files.items())
    assert "repo" not in source or source["file"] in files.values()


def test_the_size_fits_the_parameters(card):
    bits = 8 * card["source"]["size_bytes"] / card["parameters"]
    assert 4 < bits < 10


def test_a_checksum_is_sha256(card):
    assert re.fullmatch(r"[0-9a-f]{64}", card["source"].get("sha256", "0" * 64))


def test_both_vicunas_have_one_template():
    one, other = (load(path)["chat_template"] for path in FILES if path.stem in VICUNAS)
    assert one == other


def test_one_model_needs_no_download():
    assert [path.stem for path in FILES if "package" in load(path)["source"]] == ["smollm2-135m-instruct"]


def test_vicuna_turns_have_single_spaces_and_none_after_the_last_colon():
    text = vicuna([("user", "q"), ("assistant", "a"), ("user", "q2")])
    assert text == f"{VICUNA} USER: q ASSISTANT: a</s>USER: q2 ASSISTANT:"


def test_vicuna_without_a_generation_prompt_ends_with_the_answer():
    assert vicuna([("user", "q"), ("assistant", "a")], generation=False) == f"{VICUNA} USER: q ASSISTANT: a</s>"


def test_a_system_message_replaces_vicunas_own():
    assert vicuna([("system", "Be brief."), ("user", "q")]) == "Be brief. USER: q ASSISTANT:"
