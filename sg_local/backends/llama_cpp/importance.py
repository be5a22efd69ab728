"""How much each input of each matrix counts: mean squares of what flows into it, as llama.cpp's imatrix tool has them.

llama.cpp lets a callback look at every node of its graph (cb_eval). Of each product with a matrix of the model the
right-hand side is read, with an adapter switched on too. A node is read by ggml's own struct, whose layout is held to
the place of the name that ggml itself tells: a library that lays it out otherwise gives no importance at all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import llama_cpp as lib
import numpy as np

from sg_local.gguf import TYPES, ggml

_F32 = TYPES["F32"].id
_NAME_AT = 256


class _Node(ctypes.Structure):
    """The head of ggml_tensor (ggml.h), up to its name."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


class InputSquares:
    """Sums up the squares of what flows into every matrix, while its `callback` watches a context."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}
        self._library = _declared()
        self.callback = lib.ggml_backend_sched_eval_callback(self._look)

    def means(self) -> Mapping[str, np.ndarray]:
        """Mean square of each input, float32 (columns,), by the matrix's name; empty where nothing could be read."""
        return {name: (sums / self._counts[name]).astype(np.float32) for name, sums in self._sums.items()}

    def _look(self, pointer: int, is_question: bool, _data: object) -> bool:
        """llama.cpp asks before a node whether it is of interest, and shows it when it is computed."""
        name = self._matrix(pointer)
        if name and not is_question:
            self._add(name, _Node.from_address(_Node.from_address(pointer).src[1]))
        return bool(name) or not is_question

    def _matrix(self, pointer: int) -> str:
        """The matrix that a node multiplies by; empty for every other node."""
        if self._library is None or self._library.ggml_get_name(pointer) != pointer + _NAME_AT:
            return ""
        node = _Node.from_address(pointer)
        if self._library.ggml_op_name(node.op) != b"MUL_MAT":
            return ""
        name = _Node.from_address(node.src[0]).name.decode("utf-8", "replace")
        into = _Node.from_address(node.src[1])
        plain = into.type == _F32 and into.nb[0] == 4 and into.nb[1] == 4 * into.ne[0] and into.ne[2] * into.ne[3] == 1
        return name if plain and name.endswith(".weight") else ""

    def _add(self, name: str, node: _Node) -> None:
        assert self._library is not None
        values = np.empty((node.ne[1], node.ne[0]), np.float32)
        self._library.ggml_backend_tensor_get(ctypes.addressof(node), values.ctypes.data, 0, values.nbytes)
        sums = np.einsum("ij,ij->j", values, values, dtype=np.float64)
        self._sums[name] = self._sums.get(name, 0.0) + sums
        self._counts[name] = self._counts.get(name, 0) + len(values)


def _declared() -> ctypes.CDLL | None:
    library = ggml()
    if library is not None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        library.ggml_get_name.restype, library.ggml_get_name.argtypes = pointer, [pointer]
        library.ggml_op_name.restype, library.ggml_op_name.argtypes = ctypes.c_char_p, [ctypes.c_int]
        library.ggml_backend_tensor_get.restype = None
        library.ggml_backend_tensor_get.argtypes = [pointer, pointer, size, size]
    return library
