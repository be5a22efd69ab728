"""A GGUF's tokenizer as tokenizer.json and tokenizer_config.json, the form that transformers and mlx-lm read.

Covers llama.cpp's SPM tokenizer (`llama`: merges follow the pieces' scores, unknown text falls back to bytes; a space
goes before each stretch of text where the model wants it, as Gemma does not) and byte-level BPE (`gpt2`) with the ways
of cutting text that `pretokenizers` lists. Another tokenizer is refused. The ids are llama.cpp's: special tokens are
found in the text, as with `parse_special`; told to encode them as text, it finds those that llama.cpp then does.
"""

from __future__ import annotations

from typing import Any

from sg_local.export.pretokenizers import BYTES, PRE_TOKENIZERS
from sg_local.gguf import GgufFile
from sg_local.records import SgError

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # llama_token_type
_SPACE = "\u2581"
_UNTRIMMED = ("<unk>", "<s>", "<|endoftext|>")  # Phi-3's control tokens that leave the blanks behind them alone
_LOOK_LIKE_CONTROL = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> "
    "<EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <|fim_prefix|> <fim-prefix> <fim_prefix> <PRE> "
    "<|fim_suffix|> <fim-suffix> <fim_suffix> <SUF> <|fim_middle|> <fim-middle> <fim_middle> <MID> <|fim_pad|> "
    "<fim-pad> <fim_pad> <PAD> [PAD] <|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame> <|file_sep|>".split()
)
"""Tokens that llama.cpp takes for control tokens by their text, whatever the file says of them."""


def check_tokenizer(file: GgufFile) -> None:
    """Raise SgError for a tokenizer that has no tokenizer.json here."""
    kind, split = file.value("tokenizer.ggml.model", ""), file.value("tokenizer.ggml.pre", "")
    if kind not in ("llama", "gpt2"):
        raise SgError(f"{file.path}: its tokenizer {kind!r} cannot be written for transformers.", _HINT)
    if kind == "gpt2" and split not in PRE_TOKENIZERS:
        named = f"its pre-tokenizer {split!r} is" if split else "it names no pre-tokenizer, and none is"
        raise SgError(f"{file.path}: {named} not known for folders.", _HINT)


def tokenizer_json(file: GgufFile) -> dict[str, Any]:
    """The content of tokenizer.json. Raises SgError for a tokenizer that has no such form here."""
    check_tokenizer(file)
    kind = file.value("tokenizer.ggml.model")
    parts = _spm(file) if kind == "llama" else _byte_level(file)
    common = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(file)}
    return {**common, **parts, "post_processor": _with_bos(file, parts["post_processor"])}


def tokenizer_config(file: GgufFile, chat_template: str | None) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    tokens = file.value("tokenizer.ggml.tokens")
    named = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = file.value(f"tokenizer.ggml.{key}_token_id")
        if number is not None:
            named[f"{name}_token"] = tokens[number]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": file.value(f"{file.value('general.architecture')}.context_length"),
        "clean_up_tokenization_spaces": False,
        "add_bos_token": adds_bos(file),
        "add_eos_token": False,
        **named,
        **({} if chat_template is None else {"chat_template": chat_template}),
    }


def adds_bos(file: GgufFile) -> bool:
    """Whether the tokenizer begins every text with its beginning-of-sequence token; SPM does where nothing is said."""
    cut = PRE_TOKENIZERS.get(file.value("tokenizer.ggml.pre", ""))
    default = file.value("tokenizer.ggml.model") == "llama" or (cut is not None and cut.bos)
    return bool(file.value("tokenizer.ggml.add_bos_token", default))


_HINT = "Export GGUF files instead, or take the original model's tokenizer from where it was published."


def _added(file: GgufFile) -> list[dict[str, Any]]:
    """Tokens that are found in a text before it is cut: control tokens and those that the model's makers added."""
    tokens, kinds = file.value("tokenizer.ggml.tokens"), file.value("tokenizer.ggml.token_type")
    trims = _trims(file)
    rest = {"single_word": False, "lstrip": False, "normalized": False}
    return [
        {"id": number, "content": token, **rest, "rstrip": trims and token not in _UNTRIMMED, "special": special}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        for special in [kind in (_UNKNOWN, _CONTROL) or token in _LOOK_LIKE_CONTROL]
        if special or kind == _USER_DEFINED
    ]


def _trims(file: GgufFile) -> bool:
    """Whether added tokens swallow the blanks behind them: llama.cpp knows Phi-3's, which do, by the model's name."""
    name = str(file.value("general.name", "")).lower()
    return "phi-3" in name or "phi3" in name


def _with_bos(file: GgufFile, otherwise: dict[str, Any] | None) -> dict[str, Any] | None:
    if not adds_bos(file):
        return otherwise
    number = file.value("tokenizer.ggml.bos_token_id")
    token = file.value("tokenizer.ggml.tokens")[number]
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [first, one],
        "pair": [first, one, two],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def _model(vocab: dict[str, int], merges: list[list[str]], **rest: Any) -> dict[str, Any]:
    settings = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    plain = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return {"type": "BPE", **settings, **plain, **rest, "vocab": vocab, "merges": merges}


def _byte_level(file: GgufFile) -> dict[str, Any]:
    cut = PRE_TOKENIZERS[file.value("tokenizer.ggml.pre")]
    vocab = {token: number for number, token in enumerate(file.value("tokenizer.ggml.tokens"))}
    merges = [merge.split(" ", 1) for merge in file.value("tokenizer.ggml.merges")]
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(cut.steps)},
        "post_processor": {**BYTES, "use_regex": True},
        "decoder": {**BYTES, "use_regex": True},
        "model": _model(vocab, merges, ignore_merges=cut.whole),
    }


def _spm(file: GgufFile) -> dict[str, Any]:
    tokens = file.value("tokenizer.ggml.tokens")
    vocab = {token: number for number, token in enumerate(tokens)}
    merges = _merges(vocab, file.value("tokenizer.ggml.scores"))
    unknown = tokens[file.value("tokenizer.ggml.unknown_token_id", 0)]
    spaces = [{"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]
    if file.value("tokenizer.ggml.add_space_prefix", True):
        spaces.insert(0, {"type": "Prepend", "prepend": _SPACE})
    back: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}]
    back += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    back += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if len(spaces) == 2 else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": spaces},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": back},
        "model": _model(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True),
    }


def _merges(vocab: dict[str, int], scores: list[float]) -> list[list[str]]:
    """The pairs that make each piece, best piece first: sentencepiece merges the pair whose piece scores highest.

    Any piece, as in llama.cpp: where the halves of `<s>` are pieces, a text's `<s>` becomes the token. Where scores are
    equal llama.cpp takes the leftmost pair, a rank knows no place: the longest left half first comes to the same in
    runs of blanks, whose pieces all have one score in Llama's vocabulary.
    """
    found = []
    for piece, number in vocab.items():
        for at in range(1, len(piece)):
            left, right = piece[:at], piece[at:]
            if left in vocab and right in vocab:
                found.append((-scores[number], -at, number, [left, right]))
    return [pair for *_, pair in sorted(found, key=lambda row: row[:3])]
