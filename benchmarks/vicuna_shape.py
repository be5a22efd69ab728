"""Writes a GGUF of Vicuna-7B's shape with random weights, to see what memory such a model takes.

Q4_0 matrices, F32 norms, a made-up sentencepiece vocabulary of 32,000 tokens. Tensors of one shape share their bytes:
the file's size and the work per token are those of the real model, its text is noise.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import gguf
import numpy as np

WIDTH, FFN, HEADS, VOCAB, CONTEXT = 4096, 11008, 32, 32000, 4096
BLOCK, BLOCK_BYTES = 32, 18  # Q4_0: a half-precision scale and 32 nibbles
MATRICES = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH, WIDTH),
    "attn_v": (WIDTH, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (FFN, WIDTH),
    "ffn_up": (FFN, WIDTH),
    "ffn_down": (WIDTH, FFN),
}


def write_vicuna(path: Path, layers: int = 32) -> Path:
    """Write the file and return its path: 3.8 GB with 32 layers."""
    writer = gguf.GGUFWriter(path, "llama")
    _add_config(writer, layers)
    _add_vocabulary(writer)
    tensors = list(_tensors(layers))
    for name, data in tensors:
        kind = gguf.GGMLQuantizationType.F32 if data.ndim == 1 else gguf.GGMLQuantizationType.Q4_0
        writer.add_tensor_info(name, data.shape, data.dtype, data.nbytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, data in tensors:
        writer.write_tensor_data(data)
    writer.close()
    return path


def _add_config(writer: gguf.GGUFWriter, layers: int) -> None:
    writer.add_name("vicuna-shaped")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    types = [2, 3, 3, *[6] * 256]
    tokens += ["\u2581", *map(chr, range(33, 127))]
    types += [1] * 95
    words = [f"\u2581w{i}" for i in range(VOCAB - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens + words)
    writer.add_token_scores([-float(i) for i in range(VOCAB)])
    writer.add_token_types(types + [1] * len(words))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def _tensors(layers: int):
    yield "token_embd.weight", _matrix(VOCAB, WIDTH)
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32)
        for name, (rows, columns) in MATRICES.items():
            yield f"blk.{layer}.{name}.weight", _matrix(rows, columns)
    yield "output_norm.weight", np.ones(WIDTH, np.float32)
    yield "output.weight", _matrix(VOCAB, WIDTH)


@cache
def _matrix(rows: int, columns: int) -> np.ndarray:
    """Random Q4_0 rows as bytes (rows, bytes of a row), of the standard deviation 1 / sqrt(columns)."""
    rng = np.random.default_rng(rows * columns)
    blocks = rng.integers(0, 256, (rows * columns // BLOCK, BLOCK_BYTES), np.uint8)
    scale = np.float16(1 / (4.6 * columns**0.5))  # nibbles minus 8 are uniform, with a deviation of 4.6
    blocks[:, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return blocks.reshape(rows, columns // BLOCK * BLOCK_BYTES)
