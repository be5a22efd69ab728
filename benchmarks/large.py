"""Training a model of Vicuna-7B's shape (Q4_K_M, random weights): memory, seconds a step, and what blocks cost.

    python benchmarks/large.py [--full | --layers N] [--cuda] [--file FILE] [--rows N --prefix N --own N] [--steps N]
                               [--threads N]

A way of holding the base each in a process of its own, over the same steps of the same rows: whole matrices, the file's
blocks, both also with activations computed again, and what the trainer chooses for 8 GB. By default a slice of two
layers, whose seconds are scaled to 32; `--full` takes all 32 for the ways that fit what is free. `--cuda` trains on the
GPU in bfloat16, else it is the CPU in float32. `limit_tokens_per_s` is what bare products of the model's size would
reach; `decoding` (with --cuda) the weights that are decoded a second. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from vicuna_shape import Shape, write_vicuna

from sg_local.backends import TrainSettings, machine
from sg_local.backends.torch import decoders
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.engine import TorchEngine
from sg_local.backends.torch.model import load_base
from sg_local.backends.training.checkpoint import TrainJob
from sg_local.backends.training.holding import CUDA_BLOCKS, Way, stored
from sg_local.backends.training.loop import StepPlan
from sg_local.backends.training.memory import Place, check_fits, load_of, parameters, training_need
from sg_local.gguf import TYPES, ModelConfig, StoredRows, read_config
from sg_local.records import TokenExample

LAYERS, QUICK_LAYERS = 32, 2
WAYS = {
    "whole": Way(),
    "blocks": Way(blocks=True),
    "blocks_recomputed": Way(blocks=True, recomputed=LAYERS),
    "whole_recomputed": Way(recomputed=LAYERS),
    "fitted": None,  # what the trainer chooses where 8 GB are free
}
VICUNA = Shape(type="Q4_K_M")
TINY = Shape(type="Q4_K_M", width=256, ffn=512, heads=4, vocab=1000)  # for trying the script itself
AIM_BYTES = 8_000_000_000
RATIOS = {
    "blocks": "ratio_blocks_vs_dense",
    "blocks_recomputed": "ratio_recomputed_vs_dense",
    "fitted": "ratio_fitted_vs_dense",
}
GEMM = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Work:
    """What is trained: rows a step, the tokens that they share and their own, steps timed after the first; threads."""

    rows: int
    prefix: int
    own: int
    steps: int
    threads: int

    @property
    def n_tokens(self) -> int:
        return self.prefix + self.rows * self.own

    @property
    def settings(self) -> TrainSettings:
        return TrainSettings(batch_size=self.rows)

    def examples(self, vocab: int) -> list[TokenExample]:
        """Rows of random tokens, a third of each one's own tokens being its answer."""
        draw = np.random.default_rng(0)
        prefix = tuple(draw.integers(260, vocab, self.prefix).tolist())
        own = draw.integers(260, vocab, (self.rows, self.own)).tolist()
        n_prompt = self.prefix + self.own - max(1, self.own // 3)
        return [TokenExample(str(i), (*prefix, *tail), n_prompt) for i, tail in enumerate(own)]


def way_of(name: str, path: Path, work: Work, device: torch.device) -> Way:
    """The way of a name."""
    way, shape, on_cuda = WAYS[name], read_config(path), device.type == "cuda"
    if way is not None:
        return way
    place = Place(AIM_BYTES, on_cuda=on_cuda, blocks=stored(path, on_cuda=on_cuda))
    return check_fits(work.examples(shape.vocab), work.settings, shape, place)


def measure(path: Path, way: Way, work: Work, device: torch.device) -> dict:
    """Train in this process: seconds of loading and of each step, the losses, and the peak of memory."""
    shape, began, settings = read_config(path), time.perf_counter(), work.settings
    rows = work.examples(shape.vocab)
    torch.set_num_threads(work.threads)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    base = load_base(path, device, dtype, as_blocks=way.blocks)
    engine = TorchEngine(base, TorchLora(base, settings), TrainJob(rows, [], Path(), settings, "", "torch"))
    engine.recompute = way.recomputed
    engine.start()
    loaded_s, seconds, losses = time.perf_counter() - began, [], []
    for step in range(work.steps + 1):
        began = time.perf_counter()
        losses.append(engine.step(StepPlan(step, (tuple(rows),), 1e-4)).loss)  # the loss is read: all work is done
        seconds.append(time.perf_counter() - began)
    found = {"loaded_s": loaded_s, "first_s": seconds[0], "step_s": statistics.median(seconds[1:]), "losses": losses}
    return found | {"recomputed": engine.recompute, "peak_bytes": peak_bytes(device), **peaks_on_cuda(device)}


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process held: resident, or with a GPU all that it took there, the context included."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total - free  # torch keeps what it has once taken
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def peaks_on_cuda(device: torch.device) -> dict[str, int]:
    if device.type != "cuda":
        return {}
    return {"allocated_bytes": torch.cuda.max_memory_allocated(), "reserved_bytes": torch.cuda.max_memory_reserved()}


def gemm_flops(device: torch.device, threads: int) -> float:
    """Floating-point operations a second of bare matrix products, in the number format of training."""
    n, dtype = GEMM[device.type], torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.set_num_threads(threads)
    left, right = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        float((left @ right)[0, 0])
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def decoding_rates(shape: Shape) -> dict[str, float]:
    """Weights decoded a second on the GPU, by type: with Triton's kernels where there are some, and without."""
    rates, device, out = {}, torch.device("cuda"), torch.empty(shape.ffn, shape.width, device="cuda").bfloat16()
    for type in CUDA_BLOCKS:
        row = np.zeros((shape.ffn, TYPES[type].row_bytes(shape.width)), np.uint8)
        copy = decoders.copy_of(StoredRows(row, type), device)
        work = {"": copy.decode, "_plain": partial(decoders.decode, copy.raw, type)}
        for name, decode in work.items():
            decode(out)
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(5):
                decode(out)
            torch.cuda.synchronize()
            rates[type + name] = 5 * out.numel() / (time.perf_counter() - began)
    return rates


def limit_tokens_per_s(shape: ModelConfig, flops: float) -> float:
    """Tokens a second if products were all there is: two for each weight, forwards and backwards to the inputs."""
    in_layers = parameters(shape) - shape.vocab * shape.hidden * (1 if shape.tied else 2)
    return flops / (4 * in_layers)


def probe(device: torch.device, threads: int) -> dict:
    """The device: its name, bytes free, operations a second, weights decoded a second.

    In a process of its own, as each way is: what a process has on a GPU would count against the next.
    """
    on_cuda = device.type == "cuda"
    return {
        "name": torch.cuda.get_device_name() if on_cuda else machine.cpu_name(),
        "free": torch.cuda.mem_get_info()[0] if on_cuda else machine.free_memory(),
        "flops": gemm_flops(device, threads),
        "decoding": decoding_rates(VICUNA) if on_cuda else {},
    }


def fits(path: Path, way: Way, work: Work, free: int | None, *, on_cuda: bool) -> bool:
    """Whether the estimate says that a way fits what is free."""
    shape = read_config(path)
    load = load_of(work.examples(shape.vocab), work.settings, shape, Place(free, on_cuda=on_cuda))
    return free is None or training_need(shape, load, way, stored(path, on_cuda=on_cuda)).total < free


def in_a_process(path: Path, name: str, work: Work, device: torch.device) -> dict | None:
    """`measure` in a process of its own; None where it died."""
    sizes = [f"--{key}={value}" for key, value in asdict(work).items()]
    command = [sys.executable, __file__, "--way", name, "--file", str(path), *sizes]
    command += ["--cuda"] if device.type == "cuda" else []
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        print(f"{name}: ended with {done.returncode}: {done.stderr[-2000:]}", flush=True)
        return None
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


def report(path: Path, work: Work, device: torch.device, names: list[str]) -> dict:
    """Every way that fits, printed as it comes, and how they compare."""
    shape = read_config(path)
    about = in_a_process(path, "probe", work, device)
    if about is None:
        raise SystemExit("the device could not be probed")
    scale, limit, found = LAYERS / shape.layers, limit_tokens_per_s(shape, about["flops"]), {}
    for name in names:
        if not fits(path, way_of(name, path, work, device), work, about["free"], on_cuda=device.type == "cuda"):
            print(f"{name}: left out, it does not fit the memory that is free", flush=True)
            continue
        one = in_a_process(path, name, work, device)
        if one is not None:
            speed = work.n_tokens / one["step_s"]
            found[name] = {
                **one,
                "tokens_per_s": speed,
                "share_of_limit": speed / limit,
                "step_s_32": one["step_s"] * scale,
            }
            print(f"{name}: {found[name]}", flush=True)
    return {
        "benchmark": "train_large",
        "device": about["name"],
        "file_bytes": path.stat().st_size,
        "layers": shape.layers,
        "n_tokens": work.n_tokens,
        **asdict(work),
        "gemm_tflops": about["flops"] / 1e12,
        "limit_tokens_per_s": limit,
        "decoding": about["decoding"],
        "ways": found,
        **compared(found),
    }


def compared(found: dict) -> dict:
    """Ratios of seconds to the whole matrices' (below 1: faster), losses that differ, and the aim of 8 GB."""
    result: dict = {**dict.fromkeys(RATIOS.values()), "largest_loss_difference": None}
    whole = found.get("whole")
    if whole is not None:
        for name, key in RATIOS.items():
            if name in found:
                result[key] = round(found[name]["step_s"] / whole["step_s"], 3)
        apart = [abs(a - b) / b for one in found.values() for a, b in zip(one["losses"], whole["losses"], strict=True)]
        result["largest_loss_difference"] = max(apart)
    least = min((one["peak_bytes"] for one in found.values()), default=None)
    return result | {"least_peak_bytes": least, "within_8_gb": least is not None and least < AIM_BYTES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help=f"all {LAYERS} layers")
    parser.add_argument("--layers", type=int, default=QUICK_LAYERS, help="layers of the slice")
    parser.add_argument("--cuda", action="store_true", help="on the GPU, in bfloat16")
    parser.add_argument("--file", type=Path, help="an existing file, instead of writing one")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--prefix", type=int, default=64)
    parser.add_argument("--own", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=machine.physical_cores())
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, to try the script")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=[*list(WAYS)[:3], "fitted"])
    parser.add_argument("--way", choices=(*WAYS, "probe"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = Work(options.rows, options.prefix, options.own, options.steps, options.threads)
    device = torch.device("cuda" if options.cuda else "cpu")
    if options.way == "probe":
        return print(json.dumps(probe(device, options.threads)))
    if options.way:
        return print(json.dumps(measure(options.file, way_of(options.way, options.file, work, device), work, device)))
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder, "vicuna-shaped.gguf")
        if not path.exists():
            layers = LAYERS if options.full else options.layers
            write_vicuna(path, layers, TINY if options.tiny else VICUNA)
        print(json.dumps(report(path, work, device, options.ways)))


if __name__ == "__main__":
    main()
