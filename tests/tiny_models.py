"""Tiny GGUF models and adapters for tests: real files of the trained architectures with random, seeded weights.

They load in llama.cpp and in our own readers, and they know nothing. The tokenizers are trained in place on a few
sentences of our own: byte-level BPE with ChatML (SmolLM2's kind) or sentencepiece BPE with Vicuna's template.
Written through the gguf package, not through our writer, so that the two check each other.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import gguf
import numpy as np

from sg_local.gguf import TYPES, quantize

TEXT = """
Route the message to billing, delivery or technical. My parcel never came, where is it now?
I was charged twice for the same order, please refund me. The app closes when I press the red button.
A chat between a curious user and an artificial intelligence assistant. Hello there, how are you today?
The quick brown fox jumps over the lazy dog, while seven wizards wait. Input: one. Output: two.
Pull the price, the quantity and the colour out of the line: 3 blue mugs at 4.50 each, 12 red plates at 9.99.
Rewrite the date: the third of May becomes 2024-05-03; "quotes", {braces} and \\backslashes stay as they are.
USER: ASSISTANT: system user assistant. Is this positive or negative? Yes, no, perhaps; answer with one word only.
"""
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# Vicuna v1.1/1.5 as FastChat builds it; no leading <s>: the tokenizer adds it (add_bos_token).
VICUNA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    '{% set turns = messages[1:] %}{% else %}{% set system = "' + VICUNA_SYSTEM + '" %}'
    "{% set turns = messages %}{% endif %}{{ system + ' ' }}{% for message in turns %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + message['content'] + '</s>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
TARGETS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
FUSED = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")


@dataclass(frozen=True)
class TinySpec:
    """What to build. `type` is the block weights' ggml type; `head_type` that of the embeddings and the head.

    The defaults suit every type: widths divide by 256. `pieces` is a sentencepiece vocabulary of one's own: (text,
    score, llama.cpp's token type) each. `loud` tokens are frequent in the noise that such a model writes.
    `tags` (text, type) take the places of the last tokens of a byte-level vocabulary.
    """

    tokenizer: Literal["bpe", "spm"] = "bpe"
    type: str = "Q4_0"
    head_type: str = "Q8_0"
    width: int = 256
    ffn: int = 512
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    tied: bool = True
    context: int = 1024
    chat_template: str | None = ""  # "": the tokenizer's usual one; None: leave it out
    rope_base: float = 10000.0
    std: float = 0.06
    embedding_std: float = 0.3  # of the head too: small ones make a model that is never sure
    seed: int = 0
    architecture: str = "llama"
    head_width: int = 0  # 0: width / heads
    pieces: tuple[tuple[str, float, int], ...] = ()
    loud: tuple[int, ...] = ()
    tags: tuple[tuple[str, int], ...] = ()
    rope_dim: int = 0  # 0: the head's length
    metadata: tuple[tuple[str, object], ...] = ()  # the architecture's own, by keys without its name

    @property
    def head_dim(self) -> int:
        return self.head_width or self.width // self.heads


def write_model(path: Path, spec: TinySpec = TinySpec(), **extra: object) -> Path:
    """Write a tiny model and return its path. `extra` adds string metadata (dots written as two underscores)."""
    writer = gguf.GGUFWriter(path, spec.architecture)
    _add_config(writer, spec)
    (_add_bpe if spec.tokenizer == "bpe" else _add_spm)(writer, spec)
    for key, value in extra.items():
        writer.add_string(key.replace("__", "."), str(value))
    for name, weights in weights_of(spec).items():
        _add_tensor(writer, name, weights, type_of(name, spec))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def weights_of(spec: TinySpec) -> dict[str, np.ndarray]:
    """The float32 weights before quantisation, by GGUF tensor name; matrices are (rows out, columns in)."""
    rng = np.random.default_rng(spec.seed)
    n_vocab = len(tokens_of(spec))
    tensors = {"token_embd.weight": _normal(rng, (n_vocab, spec.width), spec.embedding_std)}
    for layer in range(spec.layers):
        for norm, length in norms_of(spec).items():
            tensors[f"blk.{layer}.{norm}.weight"] = _norm(rng, length)
        for target in targets_of(spec):
            tensors[f"blk.{layer}.{target}.weight"] = _normal(rng, shape_of(target, spec), spec.std)
        for target in TARGETS[:3] if spec.architecture == "qwen2" else ():
            tensors[f"blk.{layer}.{target}.bias"] = _normal(rng, shape_of(target, spec)[:1], 0.3)
    tensors["output_norm.weight"] = _norm(rng, spec.width)
    if not spec.tied:
        tensors["output.weight"] = _normal(rng, (n_vocab, spec.width), spec.embedding_std)
    tensors["token_embd.weight" if spec.tied else "output.weight"][list(spec.loud)] *= 3
    return tensors


def targets_of(spec: TinySpec) -> tuple[str, ...]:
    """A block's matrices."""
    return FUSED if spec.architecture == "phi3" else TARGETS


def tokens_of(spec: TinySpec) -> list[str]:
    """The vocabulary's tokens as the file spells them."""
    if spec.tokenizer == "spm":
        return list(_spm_vocab(spec.pieces)[0])
    tokens = _bpe_vocab()[0]
    return [*tokens[: len(tokens) - len(spec.tags)], *(text for text, _ in spec.tags)]


def norms_of(spec: TinySpec) -> dict[str, int]:
    """A block's norms and their lengths, by the names that llama.cpp gives them."""
    q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    if spec.architecture == "olmo2":
        return {"attn_q_norm": q, "attn_k_norm": kv, "post_attention_norm": spec.width, "post_ffw_norm": spec.width}
    found = {"attn_norm": spec.width, "ffn_norm": spec.width}
    if spec.architecture in ("qwen3", "gemma3"):
        found |= {"attn_q_norm": spec.head_dim, "attn_k_norm": spec.head_dim}
    if spec.architecture in ("gemma2", "gemma3"):
        found |= {"post_attention_norm": spec.width, "post_ffw_norm": spec.width}
    return found


def shape_of(target: str, spec: TinySpec) -> tuple[int, int]:
    """Rows and columns of one adapted matrix."""
    q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    up = 2 * spec.ffn if spec.architecture == "phi3" else spec.ffn
    rows = {"attn_q": q, "attn_k": kv, "attn_v": kv, "attn_qkv": q + 2 * kv, "ffn_gate": spec.ffn, "ffn_up": up}
    return rows.get(target, spec.width), {"ffn_down": spec.ffn, "attn_output": q}.get(target, spec.width)


def type_of(name: str, spec: TinySpec) -> str:
    """The ggml type a tensor is stored in: norms stay F32."""
    if name.endswith(("norm.weight", ".bias")):
        return "F32"
    return spec.head_type if name in ("token_embd.weight", "output.weight") else spec.type


def lora_pairs(
    spec: TinySpec, rank: int = 4, size: float = 0.005, seed: int = 1, targets: tuple[str, ...] = ()
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random LoRA factors A (r, in), B (out, r) whose B @ A is `size` times as large as the weights it changes."""
    rng, weights, pairs = np.random.default_rng(seed), weights_of(spec), {}
    for layer in range(spec.layers):
        for target in targets or targets_of(spec):
            name = f"blk.{layer}.{target}.weight"
            rows, columns = shape_of(target, spec)
            a, b = _normal(rng, (rank, columns), 1.0), _normal(rng, (rows, rank), 1.0)
            scale = size * np.linalg.norm(weights[name]) / np.linalg.norm(b @ a)
            pairs[name] = (a * math.sqrt(scale), b * math.sqrt(scale))
    return pairs


def write_lora(
    path: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]], alpha: float, architecture: str = "llama"
) -> Path:
    """An adapter GGUF written through the gguf package. The delta is alpha / rank * B @ A."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, (a, b) in pairs.items():
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a, np.float32))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    return (rng.standard_normal(shape) * std).astype(np.float32)


def _norm(rng: np.random.Generator, width: int) -> np.ndarray:
    return (1 + 0.05 * rng.standard_normal(width)).astype(np.float32)


def _add_tensor(writer: gguf.GGUFWriter, name: str, weights: np.ndarray, type: str) -> None:
    if type == "F32":
        writer.add_tensor(name, weights)
    else:
        raw = quantize(weights, type)
        writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType(TYPES[type].id))


def _add_config(writer: gguf.GGUFWriter, spec: TinySpec) -> None:
    writer.add_type("model")
    writer.add_name(f"Tiny {spec.tokenizer} {spec.type}")
    writer.add_license("apache-2.0")
    writer.add_block_count(spec.layers)
    writer.add_context_length(spec.context)
    writer.add_embedding_length(spec.width)
    writer.add_feed_forward_length(spec.ffn)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_rope_freq_base(spec.rope_base)
    writer.add_rope_dimension_count(spec.rope_dim or spec.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    if spec.head_width:
        writer.add_key_length(spec.head_dim)
        writer.add_value_length(spec.head_dim)
    if spec.architecture == "granite":
        writer.add_attention_scale(0.1)
        writer.add_embedding_scale(6.0)
        writer.add_residual_scale(0.4)
        writer.add_logit_scale(4.0)
    add = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    for key, value in spec.metadata:
        add[type(value)](f"{spec.architecture}.{key}", value)
    writer.add_file_type(int(gguf.LlamaFileType[_FILE_TYPES.get(spec.type, f"MOSTLY_{spec.type}")]))
    writer.add_quantization_version(2)


_FILE_TYPES = {"F32": "ALL_F32", "Q4_K": "MOSTLY_Q4_K_M", "Q5_K": "MOSTLY_Q5_K_M", "Q3_K": "MOSTLY_Q3_K_M"}


def _add_bpe(writer: gguf.GGUFWriter, spec: TinySpec) -> None:
    tokens, merges = tokens_of(spec), _bpe_vocab()[1]
    tags = dict(spec.tags)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([tags.get(token, 3 if token.startswith("<|") else 1) for token in tokens])
    writer.add_token_merges(merges)
    for add, id in ((writer.add_bos_token_id, 1), (writer.add_eos_token_id, 2), (writer.add_unk_token_id, 0)):
        add(id)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    if spec.chat_template is not None:
        writer.add_chat_template(spec.chat_template or CHATML)


def _add_spm(writer: gguf.GGUFWriter, spec: TinySpec) -> None:
    tokens, scores, types = _spm_vocab(spec.pieces)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    if spec.chat_template is not None:
        writer.add_chat_template(spec.chat_template or VICUNA)


def spm_pieces() -> tuple[tuple[str, float, int], ...]:
    """The usual sentencepiece vocabulary, as `TinySpec.pieces` takes one of one's own."""
    return tuple(zip(*_spm_vocab(), strict=True))


@lru_cache(maxsize=1)
def _bpe_vocab() -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level BPE of 512 tokens; the first three are ChatML's special ones."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return sorted(model["vocab"], key=model["vocab"].get), merges


@lru_cache(maxsize=2)
def _spm_vocab(pieces: tuple[tuple[str, float, int], ...] = ()) -> tuple[list[str], list[float], list[int]]:
    """Tokens, scores and llama.cpp types: as given, or of a sentencepiece BPE of 512 tokens with byte fallback."""
    if pieces:
        tokens, scores, types = map(list, zip(*pieces, strict=True))
        return tokens, scores, types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import sentencepiece

        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT.strip().splitlines()),
            model_writer=out,
            model_type="bpe",
            vocab_size=512,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            character_coverage=1.0,
            minloglevel=2,
        )
        model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    ids = range(model.get_piece_size())
    kinds = [2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1 for i in ids]
    return [model.id_to_piece(i) for i in ids], [model.get_score(i) for i in ids], kinds
