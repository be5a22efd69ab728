"""The Triton kernels decode as ggml does, to the bit: on a GPU where there is one, else in Triton's interpreter.

The interpreter needs Triton alone; it is a process of its own, since the choice is made when Triton is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sg_local.backends.torch import decoders
from sg_local.backends.training.holding import CUDA_BLOCKS
from sg_local.gguf import StoredRows, dequantize, quantize, rows_to_hf

ON_CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not ON_CUDA, reason="needs a CUDA GPU")
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
CASES = [(type, heads) for type in CUDA_BLOCKS for heads in (None, 4)]


def random_rows(type: str, rows: int = 72, columns: int = 768) -> np.ndarray:
    draw = np.random.default_rng(5)
    weights = draw.standard_normal((rows, columns)) * draw.lognormal(0, 2, (rows, 1))
    return quantize(weights.astype(np.float32), type)


def expected_rows(raw: np.ndarray, type: str, heads: int | None) -> torch.Tensor:
    found = dequantize(raw, type)
    return torch.from_numpy(np.ascontiguousarray(found if heads is None else rows_to_hf(found, heads)))


@needs_cuda
@pytest.mark.parametrize(("type", "heads"), CASES)
@pytest.mark.parametrize("plain", [False, True])
def test_decoding_on_the_gpu_equals_ggml(type: str, heads: int | None, plain: bool, monkeypatch) -> None:
    if plain:
        monkeypatch.setattr(decoders, "fused", lambda on_cuda: None)
    raw = random_rows(type)
    expected, cuda = expected_rows(raw, type, heads), torch.device("cuda")
    copy = decoders.copy_of(StoredRows(raw, type, heads), cuda)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        out = torch.empty(expected.shape, dtype=dtype, device=cuda)
        copy.decode(out)
        assert torch.equal(out.cpu(), expected.to(dtype))
    if heads is None:
        part = torch.empty(20, expected.shape[1], dtype=torch.bfloat16, device=cuda)
        copy.decode(part, 30, 50)
        assert torch.equal(part.cpu(), expected[30:50].bfloat16())


@needs_cuda
@needs_triton
def test_triton_makes_kernels_on_this_machine() -> None:
    assert decoders.fused(True) is not None


def interpreted() -> list[str]:
    """Run in the interpreter: the cases whose float32 result is not ggml's."""
    from sg_local.backends.torch import kernels

    wrong = []
    for type, heads in CASES:
        if type in kernels.KERNELS:
            raw = random_rows(type)
            expected = expected_rows(raw, type, heads)
            out = torch.empty(expected.shape)
            kernels.decode(torch.from_numpy(raw), type, out, heads)
            wrong += [] if torch.equal(out, expected) else [f"{type}, heads {heads}"]
    return wrong


@needs_triton
def test_the_kernels_arithmetic_is_ggmls_in_the_interpreter() -> None:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import test_kernels as t; print(t.interpreted())"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
