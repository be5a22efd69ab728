"""The tokenizers of exported folders against llama.cpp, on tiny vocabularies: every kind, every nasty text.

`data/token_ids.json` keeps what llama.cpp made of a plain prompt in each family: ids that moved mean that prompts did.
"""

from __future__ import annotations

import json
from pathlib import Path

import llama_cpp as lib
import pytest
from tiny_vocabularies import SPM, TEXTS, bpe, write_vocabulary
from tokenizers import Tokenizer

from sg_local import gguf, prompts
from sg_local.backends.llama_cpp.library import load_model
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.export.pretokenizers import PRE_TOKENIZERS
from sg_local.export.tokenizer import tokenizer_json
from sg_local.records import Pair, SgError, Task

VOCABULARIES = {**SPM, **{pre: bpe(pre) for pre in PRE_TOKENIZERS}}
FAMILIES = {
    "Vicuna, TinyLlama, Mistral 7B": "llama",
    "Phi-3": "phi-3",
    "Gemma": "gemma",
    "Llama 3": "llama-bpe",
    "Qwen2, Qwen2.5, Qwen3": "qwen2",
    "Qwen3.5": "qwen35",
    "SmolLM2": "smollm",
    "SmolLM3": "smaug-bpe",
    "Granite 3": "refact",
    "Granite 4, OLMo 2, Phi-4": "dbrx",
    "OLMo": "olmo",
    "Phi-4-mini": "gpt-4o",
    "Mistral Nemo, Ministral": "tekken",
    "GPT-2": "gpt-2",
}
TASK = Task(
    name="orders",
    kind="generation",
    instruction="Say what was ordered; don't guess. Prices up to 1,000,000 are fine.",
    examples=(Pair("Order 1234567: 3 mugs, they're BLUE\n  (no tea)", "mugs"), Pair("<s>中文</s> CamelCase", "é")),
)
INPUT = "  leading blanks 👩\u200d👩\u200d👧 n\u0303o\t<|user|>\n l'été"


@pytest.fixture(scope="module", params=VOCABULARIES)
def both(request, tmp_path_factory):
    """llama.cpp's tokenizer as our engine uses it and the folder's, of the same file, with the vocabulary's name."""
    path = write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "v.gguf", VOCABULARIES[request.param])
    with gguf.GgufFile(path) as file:
        theirs = Tokenizer.from_str(json.dumps(tokenizer_json(file)))
    model = load_model(path, vocab_only=True)
    yield request.param, lib.llama_model_get_vocab(model), Vocab(model), theirs
    lib.llama_model_free(model)


def by_llama_cpp(vocab, text: str, special: bool) -> list[int]:
    """The ids with what the vocabulary puts in front by itself."""
    data = text.encode()
    buffer = (lib.llama_token * (len(data) + 16))()
    return buffer[: lib.llama_tokenize(vocab, data, len(data), buffer, len(buffer), True, special)]


@pytest.mark.parametrize("special", (True, False), ids=("special", "as text"))
def test_a_folder_s_tokenizer_gives_llama_cpp_s_ids(both, special):
    _, vocab, _, theirs = both
    theirs.encode_special_tokens = not special
    wanted = {text: by_llama_cpp(vocab, text, special) for text in TEXTS}
    assert {text: theirs.encode(text).ids for text in TEXTS} == wanted


@pytest.mark.parametrize("both", dict.fromkeys(FAMILIES.values()), indirect=True)
def test_a_family_s_prompt_keeps_its_token_ids(both):
    name, _, ours, theirs = both
    prompt = prompts.answer_prompt(TASK, prompts.PLAIN, INPUT)
    theirs.encode_special_tokens = True  # a task's text names no special token
    kept = json.loads((Path(__file__).parent / "data" / "token_ids.json").read_text())[name]
    assert ours.tokenize(prompt) == kept == theirs.encode("".join(segment.text for segment in prompt)).ids


def test_every_cut_is_told_from_the_others_by_these_texts(tmp_path):
    """Else equal ids would prove nothing."""
    found = {}
    for name in dict.fromkeys(FAMILIES.values()):
        with gguf.GgufFile(write_vocabulary(tmp_path / "v.gguf", VOCABULARIES[name])) as file:
            tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json(file)))
        found[name] = tuple(tuple(tokenizer.encode(text, add_special_tokens=False).ids) for text in TEXTS)
    same = {(a, b) for a in found for b in found if a < b and found[a] == found[b]}
    assert same == {("gpt-2", "olmo"), ("refact", "smollm"), ("dbrx", "smaug-bpe")}  # one cut by two names


@pytest.mark.parametrize(
    ("fields", "message"),
    (
        ({"tokenizer.ggml.pre": "kimi-k2"}, "its pre-tokenizer 'kimi-k2' is not known"),
        ({"tokenizer.ggml.pre": ""}, "it names no pre-tokenizer"),
        ({"tokenizer.ggml.model": "bert"}, "its tokenizer 'bert' cannot be written"),
    ),
)
def test_another_tokenizer_is_refused_by_name(tmp_path, fields, message):
    path = write_vocabulary(tmp_path / "v.gguf", bpe("gpt-2"))
    gguf.copy_with_fields(path, path, fields)
    with gguf.GgufFile(path) as file, pytest.raises(SgError, match=message) as caught:
        tokenizer_json(file)
    assert caught.value.hint


@pytest.mark.parametrize("add", (True, False))
@pytest.mark.parametrize("name", ("llama", "llama-bpe", "qwen2"))
def test_a_file_that_says_whether_texts_begin_with_bos_is_heard(tmp_path, name, add):
    path = write_vocabulary(tmp_path / "v.gguf", VOCABULARIES[name])
    gguf.copy_with_fields(path, path, {"tokenizer.ggml.add_bos_token": add})
    with gguf.GgufFile(path) as file:
        tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json(file)))
    assert (tokenizer.encode("x").ids[0] == 1) is add


def test_a_token_that_looks_like_a_control_token_is_one(tmp_path):
    """As for llama.cpp, whatever the file says: `<|im_end|>` as a normal token, `<|fim_prefix|>` as a user's."""
    path = write_vocabulary(tmp_path / "v.gguf", bpe("qwen2"))
    with gguf.GgufFile(path) as file:
        tokens, kinds = file.value("tokenizer.ggml.tokens"), list(file.value("tokenizer.ggml.token_type"))
        kinds[tokens.index("<|im_end|>")] = 1
        gguf.copy_with_fields(path, tmp_path / "w.gguf", {"tokenizer.ggml.token_type": kinds})
    with gguf.GgufFile(tmp_path / "w.gguf") as file:
        added = {one["content"]: one["special"] for one in tokenizer_json(file)["added_tokens"]}
    assert added["<|im_end|>"] and not added["<tool_call>"]
