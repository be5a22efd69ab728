"""Tensor types and file types of GGUF: their numbers, block sizes and names.

The numbers are ggml's (`enum ggml_type`, `enum llama_ftype`); the GGUF specification fixes them for good.
"""

from __future__ import annotations

from dataclasses import dataclass

from sg_local.records import SgError


@dataclass(frozen=True)
class TensorType:
    """One ggml type: `block` weights along a row take `block_bytes` bytes."""

    id: int
    name: str
    block: int
    block_bytes: int

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row of `columns` weights, which must be a multiple of the block."""
        assert columns % self.block == 0, (self.name, columns)
        return columns // self.block * self.block_bytes


_TABLE = (
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 40),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
)
TYPES: dict[str, TensorType] = {row[1]: TensorType(*row) for row in _TABLE}
_BY_ID = {kind.id: kind for kind in TYPES.values()}

FLOATS = ("F32", "F16", "BF16")

# llama_ftype: what general.file_type says of the whole file.
FILE_TYPES: dict[str, int] = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ4_XS": 30,
    "BF16": 32,
}
FILE_TYPE_NAMES = {number: name for name, number in FILE_TYPES.items()}


def type_of(number: int, whose: str) -> TensorType:
    """The tensor type with ggml's number. Raises SgError, which says whose, for one that this version does not know."""
    kind = _BY_ID.get(number)
    if kind is None:
        raise SgError(
            f"{whose} has ggml type {number}, which sg-local does not know.",
            "Use the model in another quantisation: F16, Q8_0, a K-quant, or Q4_0 to Q5_1.",
        )
    return kind
