"""Whether llama.cpp's AMX kernels compute on this machine: tried once, in a process of its own that may crash.

A build for the machine at hand (`-march=native`) uses them where the processor has AMX, and two faults end the process
at the first product (llama.cpp issue 20824, pull request 26954). GCC 12.2's `_tile_loadconfig` claims to read eight
bytes, so ggml's tile configuration is dropped as a dead store and `ldtilecfg` faults; and some systems announce AMX
without leave to use it. Neither can be told from the processor's flags: only a product tells.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np

WIDTH, N_VOCAB, N_TOKENS = 64, 64, 8
TOLERANCE = 0.05  # of the largest logit: the kernels round activations to 8 bits each in its own way
TIMEOUT_S = 60


@functools.cache
def amx_fails() -> bool:
    """True where this build of llama.cpp has AMX kernels and they crash or miscompute here."""
    if not built_with_amx():
        return False
    try:
        done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:  # a machine that is this busy can do without
        return True
    return done.returncode != 0


def built_with_amx() -> bool:
    """True where this build of llama.cpp multiplies with AMX tiles, by its own word."""
    return b"AMX_INT8 = 1" in (lib.llama_print_system_info() or b"")


def main() -> int:
    """The child's part: the logits of a tiny model with AMX against those without. 0 when they agree.

    Prints whether AMX is used, for whoever asks from outside.
    """
    from sg_local.backends.llama_cpp.library import log

    log()
    with tempfile.TemporaryDirectory() as folder:
        path = write_probe(Path(folder) / "probe.gguf")
        plain, tiles = (_logits(path, use_extra_bufts=wanted) for wanted in (False, True))
    print("used by llama.cpp" if built_with_amx() else "this build of llama.cpp does not use it")
    return 0 if np.abs(plain - tiles).max() <= TOLERANCE * np.abs(plain).max() else 1


def write_probe(path: Path) -> Path:
    """A model of one small block with random Q8_0 matrices and no vocabulary: enough for a product with AMX."""
    from sg_local.gguf import FilePlan, TensorPlan, pack_fields, quantize, write_gguf

    draw = np.random.default_rng(0)
    fields = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": N_TOKENS,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": WIDTH,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": N_VOCAB,
        "tokenizer.ggml.model": "no_vocab",
    }
    matrices = ["token_embd", *(f"blk.0.{stem}" for stem in _STEMS)]
    norms = ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"]
    plans = [TensorPlan(f"{name}.weight", (WIDTH, WIDTH), "Q8_0") for name in matrices]
    plans += [TensorPlan(f"{name}.weight", (WIDTH,), "F32") for name in norms]

    def weights(plan: TensorPlan) -> list[np.ndarray]:
        if plan.type == "F32":
            return [np.ones(plan.shape, np.float32)]
        return [quantize(draw.standard_normal(plan.shape).astype(np.float32), "Q8_0")]

    write_gguf(path, FilePlan(pack_fields(fields), plans), weights)
    return path


_STEMS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def _logits(path: Path, *, use_extra_bufts: bool) -> np.ndarray:
    """Logits of the last of N_TOKENS tokens, float32 (N_VOCAB,)."""
    params = lib.llama_model_default_params()
    params.n_gpu_layers, params.use_extra_bufts = 0, use_extra_bufts
    model: Any = lib.llama_model_load_from_file(os.fsencode(path), params)
    plan: Any = lib.llama_context_default_params()
    plan.n_ctx = plan.n_batch = plan.n_ubatch = 256
    plan.n_threads = plan.n_threads_batch = 1
    context: Any = lib.llama_init_from_model(model, plan)
    tokens = (lib.llama_token * N_TOKENS)(*range(N_TOKENS))
    if lib.llama_decode(context, lib.llama_batch_get_one(tokens, N_TOKENS)):
        raise SystemExit(2)
    pointer = ctypes.cast(lib.llama_get_logits(context), ctypes.POINTER(ctypes.c_float))
    found = np.ctypeslib.as_array(pointer, shape=(N_VOCAB,)).copy()
    lib.llama_free(context)
    lib.llama_model_free(model)
    return found


if __name__ == "__main__":
    sys.exit(main())
