"""A GGUF of Vicuna-7B's shape, and one with random weights, to see what memory and time such a model takes.

Matrices in Q4_0 or in the types of a Q4_K_M file, F32 norms, a made-up sentencepiece vocabulary of 32,000 tokens.
Tensors of one shape and type share their bytes, so writing takes the memory of the largest: the file's size and the
work per token are those of the real model, its text is noise.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from sg_local import gguf

CONTEXT = 4096
# Bytes of a block that are half-precision scales, where they start, and how wide what they multiply spreads when all
# other bytes are uniform: nibbles less 8; 6-bit factors times nibbles, less 6-bit offsets; signed bytes times 6 bits.
_SPREADS = {"Q4_0": ((0,), 4.6), "Q4_K": ((0, 2), 257.0), "Q6_K": ((208,), 1367.0)}
_INT32_ARRAY = (9, 5)  # gguf_type in gguf.h: an array, of int32
_OFFSET = 7.5  # of Q4_K, times the factors' scale: weights are zero in the mean


@dataclass(frozen=True)
class Shape:
    """A llama without grouped queries, by default Vicuna-7B."""

    layers: int = 32
    width: int = 4096
    ffn: int = 11008
    heads: int = 32
    vocab: int = 32000
    type: str = "Q4_0"

    def matrices(self) -> dict[str, tuple[int, int]]:
        """The layers' matrices, (rows, columns) by name: those that an adapter changes."""
        square, wide = (self.width, self.width), (self.ffn, self.width)
        shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square)
        shapes |= {"ffn_gate": wide, "ffn_up": wide, "ffn_down": (self.width, self.ffn)}
        return {f"blk.{i}.{name}.weight": shape for i in range(self.layers) for name, shape in shapes.items()}

    def tensors(self) -> list[gguf.TensorPlan]:
        """All tensors, in the types that the file type `type` gives them."""
        ends = {"token_embd.weight": (self.vocab, self.width), "output.weight": (self.vocab, self.width)}
        found = {name: gguf.Tensor(name, shape, "F32", 0) for name, shape in {**ends, **self.matrices()}.items()}
        types = gguf.mix(found, self.type, gguf.ARCHITECTURES["llama"])
        plans = [gguf.TensorPlan(name, tensor.shape, types[name]) for name, tensor in found.items()]
        norms = [f"blk.{i}.{name}.weight" for i in range(self.layers) for name in ("attn_norm", "ffn_norm")]
        return plans + [gguf.TensorPlan(name, (self.width,), "F32") for name in ("output_norm.weight", *norms)]

    def fields(self) -> dict:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "\u2581", *map(chr, range(33, 127))]
        return {
            "general.architecture": "llama",
            "general.name": "vicuna-shaped",
            "general.file_type": gguf.FILE_TYPES[self.type],
            "general.quantization_version": 2,
            "llama.block_count": self.layers,
            "llama.context_length": CONTEXT,
            "llama.embedding_length": self.width,
            "llama.feed_forward_length": self.ffn,
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.heads,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.dimension_count": self.width // self.heads,
            "llama.rope.freq_base": 10000.0,
            "llama.vocab_size": self.vocab,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": tokens + [f"\u2581w{i}" for i in range(self.vocab - len(tokens))],
            "tokenizer.ggml.scores": [-float(i) for i in range(self.vocab)],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.add_bos_token": True,
            "tokenizer.ggml.add_eos_token": False,
        }


def packed_fields(shape: Shape) -> list[bytes]:
    """The metadata as a file holds it, the kinds of the tokens at the end."""
    return [*gguf.pack_fields(shape.fields()), _token_types(shape.vocab)]


def _token_types(n_tokens: int) -> bytes:
    """The kinds of the tokens as a metadata entry: unknown, two control tokens, bytes, words. llama.cpp wants int32."""
    key, kinds = b"tokenizer.ggml.token_type", np.array([2, 3, 3, *[6] * 256, *[1] * (n_tokens - 259)], np.int32)
    return struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", *_INT32_ARRAY, n_tokens) + kinds.tobytes()


def write_vicuna(path: Path, layers: int = 32, shape: Shape = Shape()) -> Path:
    """Write the file and return its path: 3.8 GB with 32 layers in Q4_0, 4.1 GB in Q4_K_M."""
    shape = replace(shape, layers=layers)
    plan = gguf.FilePlan(packed_fields(shape), shape.tensors())
    gguf.write_gguf(path, plan, lambda tensor: [_bytes(tensor.shape, tensor.type)])
    return path


@cache
def _bytes(shape: tuple[int, ...], type: str) -> np.ndarray:
    """Ones for a vector; for a matrix random rows as bytes, of the standard deviation 1 / sqrt(columns)."""
    if type == "F32":
        return np.ones(shape, np.float32)
    kind = gguf.TYPES[type]
    draw = np.random.default_rng(math.prod(shape))
    blocks = draw.integers(0, 256, (math.prod(shape) // kind.block, kind.block_bytes), np.uint8)
    places, spread = _SPREADS[type]
    scale = 1 / (spread * shape[1] ** 0.5)
    for place, factor in zip(places, (1.0, _OFFSET), strict=False):
        blocks[:, place : place + 2] = np.frombuffer(np.float16(scale * factor).tobytes(), np.uint8)
    return blocks
