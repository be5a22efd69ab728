"""Merging: metadata byte for byte, the delta kept, llama.cpp's own types, bounded memory, adapters that fit."""

from __future__ import annotations

import ctypes
import sys
from functools import partial
from pathlib import Path

import gguf as reference
import numpy as np
import pytest
from tiny_models import TinySpec, lora_pairs, shape_of, weights_of, write_lora, write_model

from sg_local import gguf, limits
from sg_local.gguf import reader
from sg_local.records import SgError

merge_module = sys.modules["sg_local.gguf.merge"]  # its name in the package is the function's

BASES = ("Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16")
ALPHA = 8.0


def merged(folder: Path, spec: TinySpec, type: str, size: float = 0.02, **fields) -> tuple[Path, Path, list]:
    """A tiny base, its merge into `type`, and the retained shares."""
    base, out = write_model(folder / "base.gguf", spec), folder / f"{type}.gguf"
    adapter = gguf.read_adapter(write_lora(folder / "a.gguf", lora_pairs(spec, size=size), ALPHA))
    settings = gguf.MergeSettings(type, fields={key.replace("__", "."): value for key, value in fields.items()})
    with gguf.GgufFile(base) as source:
        plan = gguf.plan_merge(source, adapter, settings)
        retained = gguf.merge(out, source, adapter, settings, lambda _: None)
    assert out.stat().st_size == plan.size_bytes
    return base, out, retained


@pytest.mark.parametrize("type", BASES)
def test_a_merge_to_q8_0_keeps_the_delta_of_every_base(tmp_path, type):
    spec = TinySpec(type=type, layers=1, kv_heads=4 if type == "Q4_K" else 2, tied=type != "Q5_0")
    base, out, retained = merged(tmp_path, spec, "Q8_0")
    assert len(retained) == 7
    assert all(row.share > 0.9 for row in retained), retained
    pairs = lora_pairs(spec, size=0.02)
    with gguf.GgufFile(base) as old, gguf.GgufFile(out) as new:
        for name, (a, b) in pairs.items():
            wanted = old.dequantize(name) + ALPHA / a.shape[0] * b @ a
            np.testing.assert_allclose(new.dequantize(name), wanted, atol=0.005)


@pytest.mark.parametrize("type", sorted(gguf.GRIDS))
def test_same_keeps_the_grid_and_the_delta(tmp_path, type):
    base, out, retained = merged(tmp_path, TinySpec(type=type, layers=2), "same", size=0.01)
    assert np.mean([row.share for row in retained]) == pytest.approx(1, abs=0.05)
    with gguf.GgufFile(base) as old, gguf.GgufFile(out) as new:
        assert {t.name: t.type for t in old.tensors.values()} == {t.name: t.type for t in new.tensors.values()}
        assert old.size == new.size


@pytest.mark.parametrize("type", sorted(gguf.GRIDS))
def test_adding_nothing_on_the_grid_changes_no_byte(type):
    raw = gguf.quantize(np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32), type)
    same = gguf.add_on_grid(raw, np.zeros((4, 512), np.float32), type, np.random.default_rng(1))
    assert np.array_equal(raw, same)


@pytest.mark.parametrize("type", sorted(gguf.GRIDS))
def test_whole_steps_are_added_exactly(type):
    """A delta of one step moves each code by one: the packing of codes is right for every weight."""
    rng = np.random.default_rng(0)
    raw = gguf.quantize(rng.normal(size=(8, 512)).astype(np.float32), type)
    old = gguf.dequantize(raw, type)
    blocks = raw.reshape(-1, gguf.GRIDS[type].block_bytes).copy()
    codes, steps = gguf.GRIDS[type].unpack(blocks)
    delta = np.broadcast_to(np.sign(codes.mean() - codes) * steps, codes.shape).reshape(8, 512).astype(np.float32)
    new = gguf.dequantize(gguf.add_on_grid(raw, delta * 1.0001, type, np.random.default_rng(0)), type)
    close = np.isclose(new, old + delta, atol=1e-3 * np.abs(old).max())
    assert close.mean() > 0.999


def test_rounding_to_the_nearest_step_of_the_same_grid_loses_the_delta():
    """The trap that decides the design: the measure must see it."""
    rng = np.random.default_rng(0)
    old = gguf.dequantize(gguf.quantize(rng.normal(size=(64, 512)).astype(np.float32), "Q4_0"), "Q4_0")
    delta = (rng.normal(size=old.shape) * 0.005).astype(np.float32)
    measure = gguf.Measure()
    measure.add(old, gguf.dequantize(gguf.quantize(old + delta, "Q4_0"), "Q4_0"), delta)
    assert measure.result("x", "Q4_0").share < 0.2


def test_the_measure_of_a_perfect_and_of_a_lost_delta():
    old, delta = np.ones((2, 2), np.float32), np.full((2, 2), 0.5, np.float32)
    whole, none = gguf.Measure(), gguf.Measure()
    whole.add(old, old + delta, delta)
    none.add(old, old, delta)
    assert (whole.result("x", "F32").share, whole.result("x", "F32").noise) == (1.0, 0.0)
    assert (none.result("x", "F32").share, none.result("x", "F32").changed) == (0.0, 0.0)


@pytest.mark.parametrize("type", ("same", "Q4_0", "Q6_K"))
def test_weighing_a_small_model_foretells_the_merge_exactly(tmp_path, type):
    """Every row is in the sample, and drawn for as in the merge."""
    base, _, retained = merged(tmp_path, TinySpec(type="Q4_1", layers=2), type, size=0.01)
    with gguf.GgufFile(base) as source:
        found = list(gguf.weigh(source, gguf.read_adapter(tmp_path / "a.gguf"), gguf.MergeSettings(type)))
    assert [(row.name, row.error) for row in found] == [(row.name, 0.0) for row in retained]
    np.testing.assert_allclose([row.share for row in found], [row.share for row in retained], rtol=1e-4)


def test_weighing_a_part_comes_with_its_error(tmp_path):
    """Shares of the whole merge lie within some standard errors of what an eighth of the rows tells."""
    base, _, retained = merged(tmp_path, TinySpec(type="Q4_1", layers=2, kv_heads=4), "same", size=0.01)
    with gguf.GgufFile(base) as source:
        found = list(gguf.weigh(source, gguf.read_adapter(tmp_path / "a.gguf"), gguf.MergeSettings("same"), 256 * 32))
    off = [(one.share - whole.share) / one.error for one, whole in zip(found, retained, strict=True)]
    assert all(0 < row.error < 1 for row in found)
    assert np.abs(off).max() < 5
    assert np.std(off) == pytest.approx(1, abs=0.6)


def test_of_a_large_tensor_some_slabs_are_measured_and_all_are_merged(tmp_path, monkeypatch):
    spec = TinySpec(type="Q4_0", layers=1)
    _, out, whole = merged(tmp_path, spec, "Q8_0")
    wanted = out.read_bytes()
    monkeypatch.setattr(reader, "SLAB_BYTES", 4096)
    monkeypatch.setattr(merge_module, "MEASURED_WEIGHTS", 1 << 12)
    _, out, some = merged(tmp_path, spec, "Q8_0")
    assert out.read_bytes() == wanted
    assert [row.name for row in some] == [row.name for row in whole]
    assert any(one.share != other.share for one, other in zip(some, whole, strict=True))
    np.testing.assert_allclose([row.share for row in some], [row.share for row in whole], atol=0.1)


@pytest.mark.parametrize("type", ("Q8_0", "Q4_K_M"))
@pytest.mark.parametrize("has_ggml", (True, False))
def test_rows_that_are_not_measured_come_out_as_those_that_are(tmp_path, monkeypatch, type, has_ggml):
    """In pieces of one row and of three, in whole slabs where ggml is not at hand, and measured."""
    spec = TinySpec(type="Q8_0", layers=1)
    wanted = merged(tmp_path, spec, type)[1].read_bytes()
    monkeypatch.setattr(reader, "SLAB_BYTES", 1 << 15)
    monkeypatch.setattr(merge_module, "MEASURED_WEIGHTS", 1)
    monkeypatch.setattr(merge_module, "encodes", lambda type: has_ggml)
    for weights in (1, 3 * 256):
        monkeypatch.setattr(merge_module, "PIECE_WEIGHTS", weights)
        assert merged(tmp_path, spec, type)[1].read_bytes() == wanted


def test_whoever_has_seen_enough_of_a_weighing_may_stop(tmp_path, monkeypatch):
    write_model(tmp_path / "base.gguf", spec := TinySpec(type="Q4_1", layers=8))
    adapter = gguf.read_adapter(write_lora(tmp_path / "a.gguf", lora_pairs(spec, size=0.01), ALPHA))
    seen: list[str] = []
    delta = gguf.LoraAdapter.delta
    monkeypatch.setattr(
        gguf.LoraAdapter, "delta", lambda self, name, *rows: seen.append(name) or delta(self, name, *rows)
    )
    monkeypatch.setattr(merge_module, "MOST_AT_WORK", 2)
    with gguf.GgufFile(tmp_path / "base.gguf") as source:
        rows = gguf.weigh(source, adapter, gguf.MergeSettings("Q8_0"))
        first = next(rows)
        rows.close()
    assert first.name == seen[0] and len(set(seen)) < len(adapter.pairs) // 2


@pytest.mark.parametrize(("cores", "most"), [(256, 17), (2, 5)])
def test_however_many_cores_there_are_few_samples_wait(monkeypatch, cores, most):
    """Of 256 cores each would hold two samples; where a container may use 2 of them, the other 254 count nothing."""
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 256)
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    begun = []

    def work():
        for number in range(600):
            begun.append(number)
            yield partial(int, number)

    results = merge_module._side_by_side(work())
    assert next(results) == 0
    assert len(begun) == most
    assert list(results) == list(range(1, 600))


def test_metadata_survives_byte_for_byte(tmp_path):
    base, out, _ = merged(tmp_path, TinySpec(tokenizer="spm", layers=1), "Q8_0", sg_local__version="9")
    with gguf.GgufFile(base) as old, gguf.GgufFile(out) as new:
        changed = {key for key in old.fields if old.fields[key].raw != new.fields[key].raw}
        assert changed == {"general.file_type"}
        assert set(new.fields) - set(old.fields) == {"sg_local.version"}
        assert list(new.fields)[: len(old.fields)] == list(old.fields)
        assert new.value("general.file_type") == gguf.FILE_TYPES["Q8_0"]


def test_the_gguf_package_reads_what_we_write(tmp_path):
    fields = {"sg_local__text": "x", "sg_local__list": ["a", "b"], "sg_local__flag": True, "sg_local__share": 0.5}
    _, out, _ = merged(tmp_path, TinySpec(layers=1), "Q4_K_M", **fields)
    reader = reference.GGUFReader(out)
    found = {key: reader.fields[key].contents() for key in reader.fields if key.startswith("sg_local")}
    assert found == {"sg_local.text": "x", "sg_local.list": ["a", "b"], "sg_local.flag": True, "sg_local.share": 0.5}
    with gguf.GgufFile(out) as ours:
        for tensor in reader.tensors:
            wanted = reference.quants.dequantize(tensor.data, tensor.tensor_type)
            np.testing.assert_allclose(ours.dequantize(tensor.name), wanted, atol=1e-6)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, first, _ = merged(tmp_path / "a", TinySpec(layers=1), "same")
    _, second, _ = merged(tmp_path / "b", TinySpec(layers=1), "same")
    assert first.read_bytes() == second.read_bytes()


FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_XS": 30}


def by_llama_cpp(base: Path, target: Path, type: str, importance: dict[str, np.ndarray]) -> Path:
    """llama.cpp's own quantiser, with this importance matrix where there is one."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPES[type], 1
    rows = [
        (name.encode(), values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), values.size)
        for name, values in importance.items()
    ]
    entries = (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))(*rows, (None, None, 0))
    if rows:
        params.imatrix = entries
    assert llama_cpp.llama_model_quantize(bytes(base), bytes(target), ctypes.byref(params)) == 0
    return target


@pytest.mark.parametrize("type", gguf.WEIGHTED_TYPES)
@pytest.mark.parametrize("kv_heads", (1, 4), ids=("shared-values", "own-values"))
@pytest.mark.parametrize("odd", (False, True), ids=("columns-divide", "columns-do-not"))
def test_weighted_types_are_encoded_as_llama_cpp_does_with_an_importance_matrix(tmp_path, type, kv_heads, odd):
    width = {"width": 96, "ffn": 288, "heads": 3, "kv_heads": 3} if odd else {"kv_heads": kv_heads}
    base = write_model(tmp_path / "m.gguf", TinySpec(type="F32", head_type="F32", layers=17, tied=odd, **width))
    draw = np.random.default_rng(0)
    with gguf.GgufFile(base) as ours:
        matrices = [tensor for tensor in ours.tensors.values() if gguf.is_matrix(tensor)]
        importance = {one.name: draw.gamma(0.3, size=one.columns).astype(np.float32) for one in matrices}
        plain = gguf.plain_type(type)
        with gguf.GgufFile(by_llama_cpp(base, tmp_path / "q.gguf", plain, importance)) as theirs:
            wanted = {tensor.name: tensor.type for tensor in theirs.tensors.values()}
            assert gguf.mix(ours.tensors, plain, gguf.ARCHITECTURES["llama"]) == wanted
            assert theirs.value("general.file_type") == gguf.FILE_TYPES[plain]
            for one in matrices:
                encoded = gguf.quantize(ours.dequantize(one.name), wanted[one.name], importance[one.name])
                assert np.array_equal(encoded, theirs.rows(theirs.tensors[one.name])), one.name


@pytest.mark.parametrize("type", gguf.EXPORT_TYPES)
@pytest.mark.parametrize("odd", (False, True), ids=("columns-divide", "columns-do-not"))
def test_types_per_tensor_are_those_llama_cpp_chooses(tmp_path, type, odd):
    """Same mixes, same fall-backs: against llama_model_quantize on an F32 model of nine layers."""
    width = {"width": 96, "ffn": 288, "heads": 3, "kv_heads": 3} if odd else {}
    spec = TinySpec(type="F32", head_type="F32", layers=9, tied=odd, **width)
    base = write_model(tmp_path / "m.gguf", spec)
    target = by_llama_cpp(base, tmp_path / "q.gguf", type, {})
    with gguf.GgufFile(base) as ours, gguf.GgufFile(target) as theirs:
        wanted = {tensor.name: tensor.type for tensor in theirs.tensors.values()}
        assert gguf.mix(ours.tensors, type, gguf.ARCHITECTURES["llama"]) == wanted
        assert theirs.value("general.file_type") == gguf.FILE_TYPES[type]
        for name, kind in wanted.items():
            encoded = gguf.quantize(ours.dequantize(name).reshape(-1, ours.tensors[name].columns), kind)
            n_off = np.count_nonzero(encoded != theirs.rows(theirs.tensors[name]))
            assert n_off <= 3 * (kind == "Q8_0"), name  # ties, which test_gguf_reader.py looks at


def test_untouched_tensors_keep_their_bytes_unless_the_new_type_is_smaller(tmp_path):
    base, out, _ = merged(tmp_path, TinySpec(type="Q4_0", head_type="Q8_0", layers=1), "F16")
    with gguf.GgufFile(base) as old, gguf.GgufFile(out) as new:
        assert new.tensors["token_embd.weight"].type == "Q8_0"
        head = old.rows(old.tensors["token_embd.weight"])
        assert np.array_equal(head, new.rows(new.tensors["token_embd.weight"]))
        assert new.tensors["blk.0.attn_q.weight"].type == "F16"


def test_adapter_round_trip_and_the_other_writer(tmp_path):
    pairs = lora_pairs(TinySpec(layers=1))
    gguf.write_adapter(tmp_path / "ours.gguf", "llama", pairs, ALPHA, {"sg_local.base.sha256": "f" * 64})
    write_lora(tmp_path / "theirs.gguf", pairs, ALPHA)
    ours, theirs = gguf.read_adapter(tmp_path / "ours.gguf"), gguf.read_adapter(tmp_path / "theirs.gguf")
    assert ours.alpha == theirs.alpha == ALPHA
    assert ours.metadata["sg_local.base.sha256"] == "f" * 64
    for name, (a, b) in pairs.items():
        for found in (ours.pairs[name], theirs.pairs[name]):
            assert np.array_equal(found[0], a)
            assert np.array_equal(found[1], b)
        np.testing.assert_allclose(ours.delta(name), ALPHA / 4 * b @ a, rtol=1e-5, atol=1e-7)


def test_adapters_that_do_not_fit_are_refused_with_the_tensor(tmp_path):
    spec = TinySpec(layers=1)
    base = write_model(tmp_path / "m.gguf", spec)
    a, b = lora_pairs(spec)["blk.0.attn_q.weight"]
    cases = (
        (gguf.LoraAdapter("qwen2", 4.0, {}, {}), "qwen2 models"),
        (gguf.LoraAdapter("llama", 4.0, {"blk.7.attn_q.weight": (a, b)}, {}), "blk.7.attn_q.weight is missing"),
        (gguf.LoraAdapter("llama", 4.0, {"blk.0.attn_k.weight": (a, b)}, {}), "does not fit"),
        (gguf.LoraAdapter("llama", 4.0, {"token_embd.weight": (a, b)}, {}), "cannot be adapted"),
        (gguf.LoraAdapter("llama", 4.0, {"output.weight": (a, b)}, {}), "cannot be adapted"),
        (gguf.LoraAdapter("llama", 4.0, {}, {"sg_local.base.sha256": "a" * 64}), "another base"),
    )
    with gguf.GgufFile(base) as file:
        for adapter, message in cases:
            with pytest.raises(SgError, match=message):
                gguf.check_adapter(adapter, file, "b" * 64)


@pytest.mark.parametrize(("rows", "rank", "columns"), [(64, 16, 4096), (3, 300, 5000), (1, 1, 1), (7, 1 << 17, 5)])
def test_a_delta_is_the_product_however_it_is_cut(rows, rank, columns):
    draw = np.random.default_rng(0)
    a = draw.standard_normal((rank, columns), dtype=np.float32)
    b = draw.standard_normal((rows + 4, rank), dtype=np.float32)
    found = gguf.LoraAdapter("llama", 2.0 * rank, {"x": (a, b)}, {}).delta("x", 2, rows + 2)
    np.testing.assert_allclose(found, 2 * b[2 : rows + 2] @ a, rtol=1e-3, atol=1e-3 * rank**0.5)


def test_embeddings_are_refused_before_anything_is_written(tmp_path):
    pair = (np.zeros((2, 256), np.float32), np.zeros((512, 2), np.float32))
    with pytest.raises(SgError, match="token_embd"):
        gguf.write_adapter(tmp_path / "a.gguf", "llama", {"token_embd.weight": pair}, 4.0)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    plan = gguf.FilePlan([], [gguf.TensorPlan("x", (4,), "F32")])

    def broken(_):
        yield np.zeros(2, np.float32)
        raise SgError("no more")

    with pytest.raises(SgError, match="no more"):
        gguf.write_gguf(tmp_path / "x.gguf", plan, broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("heads", (1, 3, 4))
def test_row_orders_are_inverse_and_pair_rows_half_a_head_apart(heads):
    rows = np.arange(heads * 8 * 2, dtype=np.float32).reshape(heads * 8, 2)
    ours = gguf.rows_to_gguf(rows, heads)
    assert np.array_equal(gguf.rows_to_hf(ours, heads), rows)
    for head in range(heads):
        for i in range(4):
            assert np.array_equal(ours[head * 8 + 2 * i], rows[head * 8 + i])
            assert np.array_equal(ours[head * 8 + 2 * i + 1], rows[head * 8 + i + 4])


def test_tiny_weights_have_the_shapes_that_the_config_promises(tmp_path):
    spec = TinySpec()
    config = gguf.read_config(write_model(tmp_path / "m.gguf", spec))
    assert all(shape_of(target, spec) == config.shape_of(target) for target in config.row.targets)
    assert weights_of(spec)["blk.0.attn_k.weight"].shape == config.shape_of("attn_k")
