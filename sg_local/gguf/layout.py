"""Row order of query and key matrices: GGUF keeps rotary pairs side by side, Hugging Face half a head apart.

The map is that of llama.cpp's converter: within each head, GGUF row 2i is Hugging Face row i, and GGUF row 2i + 1 is
Hugging Face row i + d/2. Which matrices it is for, `architectures` says. On a LoRA pair it applies to B (out, r) alone.
"""

from __future__ import annotations

import numpy as np


def rows_to_gguf(rows: np.ndarray, heads: int) -> np.ndarray:
    """Hugging Face row order to GGUF's: first axis = heads * head_dim. `heads` is the key-value heads for attn_k."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def rows_to_hf(rows: np.ndarray, heads: int) -> np.ndarray:
    """GGUF row order to Hugging Face's: the inverse of `rows_to_gguf`."""
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
