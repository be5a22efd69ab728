"""Export speed, memory and disk: our streamed merge against mlx-lm's fuse and quantise, and peft's merge_and_unload.

    python benchmarks/export.py [--full] [--type Q4_K_M] [--rounds N] [--folder DIR]

The base is a generated GGUF with Vicuna-7B's proportions and random weights: quick, 8 layers of 1024; `--full`, its
real 32 layers of 4096 in Q8_0 (7.2 GB), and 12 GB of disk in all. Each way of exporting runs in a process of its
own, which is watched from outside; rounds are interleaved, so that a busy machine slows all; only ratios are meant
to be quoted. `floor` is the least that the same work can take: copying as many bytes as the export writes, and
ggml's bare quantiser (ggml_quantize_chunk, which llama-quantize calls) over as many weights, on all cores. The last
line is one JSON object.

Ours reads a GGUF and writes a GGUF. The others cannot: they get the same weights as a float16 Hugging Face folder
and the adapter in their own form, which is prepared beforehand and not timed. peft writes float16 safetensors and
quantises nothing; mlx-lm fuses, dequantised, then quantises to 4 bits. They run where they are installed, and with
`--full` not at all unless --rivals is given: they hold the model in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from vicuna_shape import Shape, packed_fields

from sg_local import gguf
from sg_local.gguf import quants

ALPHA, RANK = 32.0, 16
WATCH_S = 0.01
COPY_BYTES = 16 << 20
AIMS = {"peak_rss_bytes": 2e9, "peak_disk_to_final": 1.1, "ratio_to_floor": 1.3}  # each at most; meant for --full


QUICK = Shape(width=1024, ffn=2816, heads=8, layers=8, vocab=8000, type="Q8_0")
FULL = Shape(type="Q8_0")


def write_base(path: Path, shape: Shape) -> None:
    """Random weights, drawn and quantised a slab at a time."""

    def chunks(plan: gguf.TensorPlan):
        if plan.type == "F32":
            yield np.ones(plan.shape, np.float32)
            return
        draw = np.random.default_rng(zlib.crc32(plan.name.encode()))
        rows, columns = plan.shape
        step = max(1, (8 << 20) // (4 * columns))
        slab = draw.standard_normal((min(step, rows), columns), dtype=np.float32) * np.float32(0.02)
        for start in range(0, rows, step):
            slab = np.roll(slab, 7, axis=1)  # other rows at a copy's price: drawing 7 billion numbers takes minutes
            yield gguf.quantize(slab[: min(step, rows - start)], plan.type)

    gguf.write_gguf(path, gguf.FilePlan(packed_fields(shape), shape.tensors()), chunks)


def write_adapter(path: Path, shape: Shape) -> None:
    """Random LoRA factors for every matrix, about one percent as large as the weights."""
    pairs = {}
    for name, (rows, columns) in shape.matrices().items():
        draw = np.random.default_rng(zlib.crc32(name.encode()) + 1)
        a = draw.standard_normal((RANK, columns), dtype=np.float32) * 0.01
        b = draw.standard_normal((rows, RANK), dtype=np.float32) * 0.0025
        pairs[name] = (a, b)
    gguf.write_adapter(path, "llama", pairs, ALPHA)


# The ways of exporting. Each is run in a process of its own: `python benchmarks/export.py --do NAME FOLDER TYPE`.


def ours(folder: Path, type: str) -> None:
    """The merge of `sg-local export`: one pass from GGUF to GGUF, every tensor's retained share measured."""
    adapter = gguf.read_adapter(folder / "adapter.gguf")
    with gguf.GgufFile(folder / "base.gguf") as source:
        gguf.merge(folder / "ours" / "fused.gguf", source, adapter, gguf.MergeSettings(type), lambda _: None)


def floor(folder: Path, type: str) -> None:
    """Copy as many bytes as the export writes, then quantise as many weights from one slab that stays in memory."""
    adapter = gguf.read_adapter(folder / "adapter.gguf")
    with gguf.GgufFile(folder / "base.gguf") as source:
        plan = gguf.plan_merge(source, adapter, gguf.MergeSettings(type))
        kept = {tensor.name: tensor.type for tensor in source.tensors.values()}
    left = plan.size_bytes
    with open(folder / "base.gguf", "rb") as read, open(folder / "floor" / "copy.bin", "wb") as write:
        while left > 0:
            piece = read.read(min(COPY_BYTES, left)) or os.urandom(min(COPY_BYTES, left))
            left -= write.write(piece)
        write.flush()
        os.fsync(write.fileno())
    slab = np.random.default_rng(0).standard_normal(8 << 20, dtype=np.float32)
    for tensor in plan.tensors:
        if tensor.name in adapter.pairs or tensor.type != kept[tensor.name]:
            rows, columns = tensor.shape
            step = slab.size // columns
            for start in range(0, rows, step):
                n = min(step, rows - start)
                bare_quantize(slab[: n * columns].reshape(n, columns), tensor.type)


def bare_quantize(weights: np.ndarray, type: str) -> None:
    """ggml_quantize_chunk over some rows, in as many threads as our encoder has."""
    kind, (rows, columns) = gguf.TYPES[type], weights.shape
    out, library = np.empty((rows, kind.row_bytes(columns)), np.uint8), quants.ggml()
    assert library is not None, "the comparison is with ggml"

    def encode(start: int, stop: int) -> None:
        source, target = weights[start:stop].ctypes.data, out[start:stop].ctypes.data
        library.ggml_quantize_chunk(kind.id, source, target, 0, stop - start, columns, None)

    quants.by_rows(encode, rows, columns)


def mlx_lm_fuse(folder: Path, type: str) -> None:
    """mlx_lm's own commands: fuse, then convert with quantisation."""
    out = folder / "mlx_lm"
    fuse = ["-m", "mlx_lm", "fuse", "--model", str(folder / "hf"), "--adapter-path", str(folder / "mlx-adapter")]
    bits = "8" if type == "Q8_0" else "4"
    convert = ["-m", "mlx_lm", "convert", "--hf-path", str(out / "fused"), "--mlx-path", str(out / "small"), "-q"]
    for line in ([*fuse, "--save-path", str(out / "fused"), "--dequantize"], [*convert, "--q-bits", bits]):
        subprocess.run([sys.executable, *line], check=True, capture_output=True)


def peft_merge(folder: Path, type: str) -> None:
    """peft's documented way: load the base, load the adapter, merge_and_unload, save_pretrained."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float16)
    model = PeftModel.from_pretrained(base, folder / "peft-adapter").merge_and_unload()
    model.save_pretrained(folder / "peft" / "merged")


WAYS: dict[str, Callable[[Path, str], None]] = {
    "ours": ours,
    "floor": floor,
    "mlx_lm": mlx_lm_fuse,
    "peft": peft_merge,
}
NEEDS = {"mlx_lm": ("mlx", "mlx_lm", "transformers"), "peft": ("torch", "peft", "transformers")}


def prepare_rivals(folder: Path, shape: Shape) -> None:
    """The base as a float16 Hugging Face folder, by our own exporter with an adapter that changes nothing, and the
    adapter as peft and as mlx-lm keep it."""
    from safetensors.numpy import load_file, save_file

    from sg_local.export.huggingface import FolderPlan, write_folder, write_peft

    adapter = gguf.read_adapter(folder / "adapter.gguf")
    for name in ("hf", "peft-adapter", "mlx-adapter"):
        (folder / name).mkdir()
    nothing = gguf.LoraAdapter("llama", ALPHA, {}, {})
    write_folder(folder / "hf", FolderPlan(folder / "base.gguf", nothing, None), lambda _: None)
    write_peft(folder / "peft-adapter", adapter, gguf.read_config(folder / "base.gguf"), "base")
    arrays = {}
    for key, value in load_file(folder / "peft-adapter" / "adapter_model.safetensors").items():
        name = key.removeprefix("base_model.model.").removesuffix(".weight").replace("lora_A", "lora_a")
        arrays[name.replace("lora_B", "lora_b")] = np.ascontiguousarray(value.T)
    save_file(arrays, folder / "mlx-adapter" / "adapters.safetensors")
    keys = sorted({name.split(".", 3)[3].rpartition(".")[0] for name in arrays})
    lora = {"rank": RANK, "scale": ALPHA / RANK, "dropout": 0.0, "keys": keys}
    config = {"fine_tune_type": "lora", "num_layers": shape.layers, "lora_parameters": lora}
    (folder / "mlx-adapter" / "adapter_config.json").write_text(json.dumps(config))


@dataclass
class Watched:
    """One run: seconds, the largest resident memory of the process and its children, the most bytes on the disk."""

    seconds: float
    peak_rss: int
    peak_disk: int
    final_bytes: int


def watch(name: str, folder: Path, type: str) -> Watched | None:
    """Run one way in a process of its own and look at it every WATCH_S seconds. What it wrote is deleted.

    None where the process failed; why is printed.
    """
    out, errors = folder / name, folder / f"{name}.txt"
    out.mkdir()
    os.sync()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, "--do", name, str(folder), type]
    began = time.perf_counter()
    rss = disk = 0
    with (
        open(errors, "wb") as stderr,
        subprocess.Popen(command, env=environment, stdout=stderr, stderr=stderr) as child,
    ):
        while child.poll() is None:
            rss, disk = max(rss, resident(child.pid)), max(disk, size_of(out))
            time.sleep(WATCH_S)
    seconds = time.perf_counter() - began
    final = size_of(out)
    shutil.rmtree(out)
    if child.returncode:
        print(f"{name} failed: {errors.read_text()[-2000:]}")
        return None
    return Watched(seconds, rss, max(disk, final), final)


def resident(pid: int) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    for each in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    return total


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(each) for each in task.read_text().split()]
        except OSError:
            continue
        for each in direct:
            found += [each, *children(each)]
    return found


def size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def race(folder: Path, type: str, names: Sequence[str], n_rounds: int) -> dict[str, list[Watched]]:
    """Every way once a round, in turns."""
    found: dict[str, list[Watched]] = {name: [] for name in names}
    for i in range(n_rounds):
        for name in names:
            if i and not found[name]:
                continue
            run = watch(name, folder, type)
            if run is None:
                continue
            found[name].append(run)
            print(
                f"round {i + 1} {name:8} {run.seconds:8.2f} s {run.peak_rss / 1e9:6.2f} GB memory "
                f"{run.peak_disk / 1e9:6.2f} GB disk {run.final_bytes / 1e9:6.2f} GB final",
                flush=True,
            )
    return {name: runs for name, runs in found.items() if len(runs) == n_rounds}


def ratio(found: dict[str, list[Watched]], name: str, of: str) -> float | None:
    """The median over rounds of one way's seconds divided by another's in the same round."""
    if name not in found or of not in found:
        return None
    pairs = zip(found[name], found[of], strict=True)
    return round(statistics.median(one.seconds / other.seconds for one, other in pairs), 2)


def report(folder: Path, shape: Shape, options: argparse.Namespace) -> dict:
    """Everything measured, the aims, and whether they are met."""
    write_base(folder / "base.gguf", shape)
    write_adapter(folder / "adapter.gguf", shape)
    size = (folder / "base.gguf").stat().st_size
    print(f"base of {shape.layers} layers, {shape.width} wide, {shape.type}, {size / 1e9:.2f} GB; to {options.type}")
    names = ["ours", "floor"]
    if options.rivals or not options.full:
        rivals = [name for name, needs in NEEDS.items() if all(find_spec(need) for need in needs)]
        if rivals:
            prepare_rivals(folder, shape)
        names += rivals
    found = race(folder, options.type, names, options.rounds or (1 if options.full else 3))
    worst = {name: max(run.peak_rss for run in runs) for name, runs in found.items()}
    reached = {
        "peak_rss_bytes": worst["ours"],
        "peak_disk_to_final": round(max(run.peak_disk / run.final_bytes for run in found["ours"]), 3),
        "ratio_to_floor": ratio(found, "ours", "floor"),
    }
    return {
        "benchmark": "export",
        "type": options.type,
        "full": options.full,
        "base_bytes": size,
        "final_bytes": {name: runs[0].final_bytes for name, runs in found.items()},
        "seconds": {name: round(statistics.median(run.seconds for run in runs), 2) for name, runs in found.items()},
        "peak_rss_bytes": worst,
        "peak_disk_bytes": {name: max(run.peak_disk for run in runs) for name, runs in found.items()},
        "ratio_mlx_lm_to_ours": ratio(found, "mlx_lm", "ours"),
        "ratio_peft_to_ours": ratio(found, "peft", "ours"),
        "reached": reached,
        "aims": AIMS,
        "aims_met": {name: reached[name] <= aim for name, aim in AIMS.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="the real Vicuna-7B shape: 12 GB of disk, minutes")
    parser.add_argument("--rivals", action="store_true", help="with --full: the others as well, 45 GB of disk")
    parser.add_argument("--type", default="Q4_K_M", choices=gguf.EXPORT_TYPES)
    parser.add_argument("--rounds", type=int, help="times that each way runs (3; 1 with --full)")
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    parser.add_argument("--do", nargs=3, metavar=("NAME", "FOLDER", "TYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:
        name, folder, type = options.do
        return WAYS[name](Path(folder), type)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(report(Path(folder), FULL if options.full else QUICK, options)))


if __name__ == "__main__":
    main()
