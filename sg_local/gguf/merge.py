"""Merges an adapter into a base GGUF as a stream, a slab of rows at a time, and measures what survived.

A touched matrix is decoded, changed and encoded in its new type; with `same` it keeps the base's grid by stochastic
rounding. An untouched one keeps its bytes, unless the new type is smaller. All metadata stays byte for byte, except
general.file_type and what the caller sets. Memory holds the adapter and one slab, whatever the model's size. Weighing
a type stands here too, which makes the module long: it is a merge of a sample, and must round as the merge does.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sg_local import limits
from sg_local.gguf.adapter import LoraAdapter
from sg_local.gguf.architectures import ARCHITECTURES
from sg_local.gguf.quant_grid import GRIDS, Measure, Retained, add_on_grid
from sg_local.gguf.quant_mix import bits, is_matrix, mix
from sg_local.gguf.quants import decode_into, decodes, dequantize, encode_into, encodes, quantize
from sg_local.gguf.reader import GgufFile, Tensor
from sg_local.gguf.types import FILE_TYPES, FLOATS, TYPES
from sg_local.gguf.writer import FilePlan, TensorPlan, pack_field, stream_gguf, write_gguf
from sg_local.records import SgError

# Rounding noise is up to some 30 times the delta, so a million weights tell a share within about three percent.
SAMPLE_WEIGHTS, N_STRIPES = 1 << 20, 8
# Of a larger tensor a merge measures slabs spread over it, of about so many weights: a share is then told within one
# percent, and decoding and comparing all of it would take longer than encoding it in a simple type.
MEASURED_WEIGHTS = 1 << 23
MOST_AT_WORK = 8  # slabs or samples at once: each holds some megabytes
PIECE_WEIGHTS = 1 << 18  # decoded, changed and encoded one after another, all in a core's cache
QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION: the block layouts written here

T = TypeVar("T")


@dataclass(frozen=True)
class MergeSettings:
    """`type` is one of EXPORT_TYPES or `same`; `fields` replaces or adds metadata (None: drop the key).

    `importance` says of each matrix, by its name, how much every column counts when it is encoded (quants.quantize).
    """

    type: str
    seed: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    importance: Mapping[str, np.ndarray] = field(default_factory=dict)


def plan_merge(source: GgufFile, adapter: LoraAdapter, settings: MergeSettings) -> FilePlan:
    """The file to come: its size is known before a byte is written. Raises SgError where `same` has no grid."""
    types = _types(source, adapter, settings.type)
    tensors = [TensorPlan(name, tensor.shape, types[name]) for name, tensor in source.tensors.items()]
    return FilePlan(_fields(source, settings), tensors, source.alignment)


def merge(
    path: Path, source: GgufFile, adapter: LoraAdapter, settings: MergeSettings, on_bytes: Callable[[int], None]
) -> list[Retained]:
    """Write the merged file and return the retained share of every touched tensor, in file order.

    `path` is written in place: the caller gives a partial name and moves the file when it has passed its gate.
    `on_bytes` hears of every piece written. Raises OSError for a full disk.
    """
    retained: list[Retained] = []

    def chunks(plan: TensorPlan) -> Iterator[np.ndarray]:
        for chunk in _tensor_chunks(source, adapter, plan, settings, retained):
            yield chunk
            on_bytes(chunk.nbytes)

    _keep_freed_memory()
    with open(path, "wb") as file:
        stream_gguf(file, plan_merge(source, adapter, settings), chunks)
        file.flush()
        os.fsync(file.fileno())
    return retained


def _keep_freed_memory() -> None:
    """Let freed arrays of some megabytes serve the next slab. glibc returns pieces to the system that are larger than
    any freed before, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD): every slab would get its pages anew."""
    np.empty(31 << 20, np.uint8)


@dataclass(frozen=True)
class Weighed:
    """The retained share that one tensor would have: estimated from a sample, with the estimate's standard error."""

    name: str
    type: str
    share: float
    error: float


def weigh(
    source: GgufFile, adapter: LoraAdapter, settings: MergeSettings, n_weights: int = SAMPLE_WEIGHTS
) -> Iterator[Weighed]:
    """The retained shares that a merge would give, by a sample of about `n_weights` of every touched tensor, in file
    order. Whoever has seen enough may stop.

    Every tensor is looked at, because their shares differ more from each other than within one. A tensor that fits
    into the sample whole gets the very share of the merge (error 0): draws and order of rows are the same.
    """

    def begun(plan: TensorPlan) -> Callable[[], Weighed]:
        tensor, sample = source.tensors[plan.name], []
        for stripe in _stripes(tensor, n_weights):  # read and multiplied here: one file, one BLAS
            slab = Slab(source.rows(tensor, *stripe), tensor.type, *stripe)
            sample.append((slab, adapter.delta(plan.name, *stripe)))
        return partial(_weigh, tensor, plan, settings, sample)

    touched = (plan for plan in plan_merge(source, adapter, settings).tensors if plan.name in adapter.pairs)
    yield from _side_by_side(map(begun, touched))


def _weigh(
    tensor: Tensor, plan: TensorPlan, settings: MergeSettings, sample: Sequence[tuple[Slab, np.ndarray]]
) -> Weighed:
    """One tensor's share, from some of its rows and their deltas."""
    rounding = _rounding(settings, plan, Measure(scatters=True))
    for slab, delta in sample:
        _merge_rows(slab, delta, plan.type, rounding)
    n_rows = sum(slab.stop - slab.start for slab, _ in sample)
    share = rounding.measure.result(plan.name, plan.type).share
    return Weighed(plan.name, plan.type, share, rounding.measure.share_error * (1 - n_rows / tensor.rows) ** 0.5)


def _stripes(tensor: Tensor, n_weights: int) -> Iterator[tuple[int, int]]:
    """Row ranges over the whole height, since heads differ; all rows of a small tensor, in order."""
    each = -(-n_weights // (tensor.columns * N_STRIPES))
    for i in range(N_STRIPES):
        start, end = (tensor.rows * at // N_STRIPES for at in (i, i + 1))
        if start < end:
            yield start, min(start + each, end)


@dataclass(frozen=True)
class Rounding:
    """How a tensor's rows are rounded (`on_grid`: stochastically, on the base's grid) and where this is measured.

    `importance`: how much every column counts, float32 (columns,); None: all alike.
    """

    on_grid: bool
    rng: np.random.Generator
    measure: Measure
    importance: np.ndarray | None = None


def _rounding(settings: MergeSettings, plan: TensorPlan, measure: Measure) -> Rounding:
    importance = settings.importance.get(plan.name)
    return Rounding(settings.type == "same", _generator(settings, plan), measure, importance)


def _generator(settings: MergeSettings, plan: TensorPlan) -> np.random.Generator:
    """A stream of its own for each tensor, so that the result does not hang on the order of tensors."""
    return np.random.default_rng((settings.seed, zlib.crc32(plan.name.encode())))


def _tensor_chunks(
    source: GgufFile, adapter: LoraAdapter, plan: TensorPlan, settings: MergeSettings, retained: list[Retained]
) -> Iterator[np.ndarray]:
    tensor = source.tensors[plan.name]
    if plan.name not in adapter.pairs:
        yield from _copied(source, tensor, plan.type, settings.importance.get(plan.name))
        return
    rounding = _rounding(settings, plan, Measure())
    slabs = (Slab(source.rows(tensor, *slab), tensor.type, *slab) for slab in source.slabs(tensor))
    if rounding.on_grid:  # its draws follow the order of rows
        for slab in slabs:
            yield _merge_rows(slab, adapter.delta(plan.name, slab.start, slab.stop), plan.type, rounding)
    else:
        each = max(1, tensor.rows * tensor.columns // MEASURED_WEIGHTS)
        yield from _merge_side_by_side(slabs, adapter, plan, rounding, each)
    retained.append(rounding.measure.result(plan.name, plan.type))


@dataclass(frozen=True)
class Slab:
    """Rows [start, stop) of a tensor as they are stored, uint8 (rows, row_bytes), in this type."""

    raw: np.ndarray
    type: str
    start: int
    stop: int


def _merge_side_by_side(
    slabs: Iterable[Slab], adapter: LoraAdapter, plan: TensorPlan, rounding: Rounding, each: int
) -> Iterator[np.ndarray]:
    """The slabs' new rows in order, every so many-th slab measured (`each`), the first among them."""

    def work(slab: Slab, is_measured: bool) -> tuple[np.ndarray, Measure]:
        own = Measure()
        if not is_measured and decodes(slab.type) and encodes(plan.type):
            return _merge_in_pieces(slab, adapter, plan, rounding.importance), own
        delta = adapter.delta(plan.name, slab.start, slab.stop)
        if is_measured:
            return _merge_rows(slab, delta, plan.type, replace(rounding, measure=own)), own
        return quantize(dequantize(slab.raw, slab.type) + delta, plan.type, rounding.importance), own

    for new, own in _side_by_side(partial(work, slab, number % each == 0) for number, slab in enumerate(slabs)):
        rounding.measure.include(own)
        yield new


def _merge_in_pieces(slab: Slab, adapter: LoraAdapter, plan: TensorPlan, importance: np.ndarray | None) -> np.ndarray:
    """A slab's new rows, in this thread, some rows at a time: whole slabs would go through memory at every step."""
    n_rows, columns = slab.stop - slab.start, plan.shape[-1]
    new = np.empty((n_rows, TYPES[plan.type].row_bytes(columns)), np.uint8)
    step = min(n_rows, max(1, PIECE_WEIGHTS // columns))
    weighed = None if importance is None else np.ascontiguousarray(importance, np.float32)
    old, changed = np.empty((2, step, columns), np.float32)
    for at in range(0, n_rows, step):
        n = min(step, n_rows - at)
        decode_into(slab.raw[at : at + n], slab.type, old[:n])
        adapter.delta(plan.name, slab.start + at, slab.start + at + n, changed[:n])
        changed[:n] += old[:n]
        encode_into(changed[:n], plan.type, new[at : at + n], weighed)
    return new


def _side_by_side(work: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The results in order, several computed at once; few wait at a time, so that memory stays small."""
    n_threads = min(limits.usable_cores(), MOST_AT_WORK)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for one in work:
                waiting.append(pool.submit(one))
                if len(waiting) > 2 * n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # nobody wants them any more
                future.cancel()


def _merge_rows(slab: Slab, delta: np.ndarray, type: str, rounding: Rounding) -> np.ndarray:
    """A slab of a touched tensor with its delta (rows, columns) added, in its new type."""
    old = dequantize(slab.raw, slab.type)
    if rounding.on_grid and type not in FLOATS:
        new = add_on_grid(slab.raw, delta, type, rounding.rng)
    else:
        new = quantize(old + delta, type, rounding.importance)
    rounding.measure.add(old, dequantize(new, type), delta)
    return new


def _copied(source: GgufFile, tensor: Tensor, type: str, importance: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """An untouched tensor's rows, encoded anew only where the type changes."""
    slabs = (source.rows(tensor, *slab) for slab in source.slabs(tensor))
    if type == tensor.type:
        yield from slabs
        return

    def encoded(raw: np.ndarray) -> np.ndarray:
        return quantize(dequantize(raw, tensor.type), type, importance)

    yield from _side_by_side(partial(encoded, raw) for raw in slabs)


def _types(source: GgufFile, adapter: LoraAdapter, file_type: str) -> dict[str, str]:
    if file_type == "same":
        return {name: _same_type(tensor, name in adapter.pairs) for name, tensor in source.tensors.items()}
    types = mix(source.tensors, file_type, ARCHITECTURES[source.value("general.architecture")])
    for name, tensor in source.tensors.items():
        if name not in adapter.pairs and is_matrix(tensor) and bits(types[name]) >= bits(tensor.type):
            types[name] = tensor.type
    return types


def _same_type(tensor: Tensor, touched: bool) -> str:
    if touched and tensor.type not in GRIDS and tensor.type not in FLOATS:
        hint = f"Types with a grid to keep: {', '.join((*GRIDS, *FLOATS))}. Use `type=auto`."
        raise SgError(f"{tensor.name} is of type {tensor.type}, whose grid cannot be kept.", hint)
    return tensor.type


def copy_with_fields(source: Path, target: Path, fields: Mapping[str, Any]) -> None:
    """Copy a GGUF, atomically, with metadata replaced or added (None: dropped); every tensor keeps its bytes."""
    with GgufFile(source) as file:
        tensors = [TensorPlan(tensor.name, tensor.shape, tensor.type) for tensor in file.tensors.values()]
        plan = FilePlan(replaced_fields(file, fields), tensors, file.alignment)
        write_gguf(target, plan, lambda plan: _copied(file, file.tensors[plan.name], plan.type))


def _fields(source: GgufFile, settings: MergeSettings) -> list[bytes]:
    """The file's metadata: the source's, with the file type and the caller's entries."""
    ours = dict(settings.fields)
    if settings.type != "same":
        ours["general.file_type"] = FILE_TYPES[settings.type]
        if "general.quantization_version" not in source.fields:
            ours["general.quantization_version"] = QUANTIZATION_VERSION
    return replaced_fields(source, ours)


def replaced_fields(source: GgufFile, fields: Mapping[str, Any]) -> list[bytes]:
    """The source's entries as they stand, with ours in the place of those they replace, or behind them."""
    ours, packed = dict(fields), []
    for key, entry in source.fields.items():
        value = ours.pop(key, entry)
        if value is not None:
            packed.append(entry.raw if value is entry else pack_field(key, value))
    return packed + [pack_field(key, value) for key, value in ours.items() if value is not None]
