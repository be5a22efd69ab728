"""Clients that others wrote, on what a run exports: are prompts training's, and answers those of our own engine?

    python benchmarks/clients.py RUN [--runs FOLDER] [--rows 20] [--type Q8_0] [--out DIR] [--node DIR] [--only A,B]

The run is copied to `--out` and exported there (a fused GGUF of that type, one of F16, `--hf`, `--mlx`); what an
earlier call left there is used again. Each client then gets bare user messages, the run's first test inputs (else
validating ones), through its own chat template code, greedy. `prompts` counts rows whose token ids are those of
training's prompt; of servers, which do not tell them, rows of the same length; of template engines, rows whose text
gives these ids. `answers` counts rows with the answer that our engine gives with the same weights: `file` the fused
GGUF, `F16` the float16 one, `adapter` the base with the adapter.

Python's clients run where they are installed; `pip install 'llama-cpp-python[server]' go-template` brings two that
sg-local does not need. npm's run where Node is, from a folder made with

    npm install --prefix DIR --ignore-scripts node-llama-cpp @huggingface/jinja @huggingface/gguf

What is missing is named. Ollama's template is filled in by Go itself where `go` is (ollama.go), and by go-template;
without both the tests' own reader reads it, and that is said. The last line is one JSON object. Some five minutes on
two cores with the embedded model.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tests_path  # noqa: F401
from ollama_reader import prompt_of, read_modelfile
from rich.console import Console
from rich.table import Table
from rich.text import Text
from serve import SG_LOCAL

import sg_local as sg
from sg_local.backends import EngineSettings, Generator, open_generator
from sg_local.export.naming import NAMES
from sg_local.gguf import GgufFile
from sg_local.job.layouts import tuned_form
from sg_local.prompts import Form, answer_prompt, answer_stops
from sg_local.records import Prompt, Sampling, Segment, Task
from sg_local.run import ADAPTER, FUSED, VALID, Run

HERE = Path(__file__).resolve().parent
N_CTX, N_NEW, TIMEOUT_S = 2048, 64, 3600
KEYS = (*NAMES, "general.license", "general.architecture", "sg_local.task.name")
AS_TEXT = "Ollama's template, as text"


@dataclass(frozen=True)
class Client:
    """One client: the weights that it reads (`against`), what it `needs`: modules, an npm package or Go; `folder`."""

    name: str
    against: str
    needs: tuple[str, ...]
    npm: bool = False
    folder: str = ""
    go: bool = False


CLIENTS = (
    Client("gguf", "file", ("gguf",)),
    Client("@huggingface/gguf", "file", ("@huggingface/gguf",), npm=True),
    Client("@huggingface/jinja", "file", ("@huggingface/jinja",), npm=True),
    Client("node-llama-cpp", "file", ("node-llama-cpp",), npm=True),
    Client('node-llama-cpp (system "")', "file", ("node-llama-cpp",), npm=True),
    Client("llama-cpp-python", "file", ("llama_cpp",)),
    Client("llama_cpp.server", "file", ("llama_cpp", "fastapi", "sse_starlette", "pydantic_settings")),
    Client("transformers", "F16", ("torch", "transformers"), folder="hf"),
    Client("mlx_lm.generate", "F16", ("mlx.core", "mlx_lm"), folder="mlx"),
    Client("mlx_lm.server", "F16", ("mlx.core", "mlx_lm"), folder="mlx"),
    Client("peft", "adapter", ("torch", "transformers", "peft"), folder="hf"),
    Client("sg-local serve", "adapter", ("uvicorn", "starlette")),
    Client("sg-local predict", "adapter", ()),
    Client("Go (Ollama)", "file", (), go=True),
    Client("go-template (Ollama)", "file", ("go_template",)),
)


@dataclass(frozen=True)
class Reference:
    """Our engine on some weights: the ids of training's prompts, and its greedy answers."""

    ids: list[list[int]]
    answers: list[str]


@dataclass(frozen=True)
class Row:
    """A line of the table. None: this client does not show it; `prompts` and `answers` count equal rows."""

    client: str
    version: str = ""
    against: str = ""
    prompts: int | None = None
    answers: int | None = None
    keys: int | None = None
    note: str = ""
    ran: bool = True


def main() -> int:
    arguments = parse()
    with folder_of(arguments.out) as out:
        wanted = [client for client in CLIENTS if not arguments.only or client.name in arguments.only.split(",")]
        folders = {client.folder for client in wanted if not missing_of(client, arguments.node)} - {""}
        case, path = prepare(arguments, out, sorted(folders)), out / "case.json"
        references = {name: Reference(**told) for name, told in case["references"].items()}
        with opened(Path(case["fused"])) as generator:
            rows = []
            for client in wanted:
                print(f"{client.name} ...", file=sys.stderr, flush=True)
                rows.append(judged(client, ask(client, path, arguments.node), references, case, generator))
            by_go = [row.ran for row in rows if "(Ollama)" in row.client]
            if by_go and not any(by_go):
                rows.append(ollama_as_text(case, references["file"], generator))
    n = len(case["inputs"])
    Console().print(drawn(rows, n))
    print(json.dumps({"run": arguments.run, "form": case["form"], "rows": n, "clients": [asdict(row) for row in rows]}))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--type", default="Q8_0", help="of the fused file")
    parser.add_argument("--out", type=Path, help="keep the exports here; default: a folder that goes")
    parser.add_argument("--node", type=Path, help="a folder with node_modules")
    parser.add_argument("--only", default="", help="names of clients, with commas")
    return parser.parse_args()


@contextmanager
def folder_of(out: Path | None) -> Iterator[Path]:
    """The folder to work in, as given or for a while."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) if out is None else out.resolve()
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen


def prepare(arguments: argparse.Namespace, out: Path, folders: Sequence[str]) -> dict[str, Any]:
    """Copy and export the run, with these folders, and ask our own engine, unless an earlier call did: the case."""
    path, copied = out / "case.json", out / "runs" / arguments.run
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if known and set(folders) <= set(known["folders"]):
        return known
    if not copied.exists():
        shutil.copytree(arguments.runs / arguments.run, copied, ignore=shutil.ignore_patterns("*.npz", FUSED, ".lock"))
    command = [*SG_LOCAL, "export", copied.name, "--runs", str(copied.parent), "--redo", "--type", arguments.type]
    command += ["--type", "F16", *(word for name in folders for word in (f"--{name}", str(out / name)))]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode:
        raise SystemExit("The export failed: see above.")
    fused, f16 = (next(copied.glob(f"*-{type}.gguf")) for type in (arguments.type, "F16"))
    with sg.load(copied.name, runs=copied.parent) as job:
        task, form, base = job.task, tuned_form(job.opened), job.opened.base.path
    inputs = inputs_of(task, Run(copied), arguments.rows)
    asked = {"file": (fused, None), "F16": (f16, None), "adapter": (base, copied / ADAPTER)}
    references = {name: asdict(reference(task, form, inputs, *files)) for name, files in asked.items()}
    known = {**case_of(copied, fused, base, inputs, form), "folders": folders, "references": references}
    path.write_text(json.dumps(known))
    return known


def inputs_of(task: Task, run: Run, n: int) -> list[str]:
    """The first test inputs; of a task without any, the validating rows'."""
    found = [row.input for row in task.tests] or [row["input"] for row in run.lines(VALID)]
    return found[:n]


def case_of(run: Path, fused: Path, base: Path, inputs: list[str], form: Form) -> dict[str, Any]:
    """What the clients' processes read."""
    with GgufFile(fused) as file:
        metadata = {key: file.value(key) for key in KEYS if key in file.fields}
        template = file.value("tokenizer.chat_template")
    with opened(fused) as generator:
        ends = {"bos": generator.info.bos, "eos": generator.info.eos}
    modelfile = (run / "Modelfile").read_text()
    lines = read_modelfile(modelfile)
    before = [{"role": key.split()[1], "content": text} for key, text in lines if key.startswith("message ")]
    said = {"form": form.name, "template": template, "metadata": metadata, "modelfile": modelfile, **ends}
    said |= {"run": run.name, "runs": str(run.parent), "out": str(run.parents[1]), "fused": str(fused)}
    said |= {"base": str(base), "inputs": inputs, "n_ctx": N_CTX, "n_new": N_NEW, "ollama_messages": before}
    return {**said, "ollama": next((text for key, text in lines if key == "template"), "")}


@contextmanager
def opened(model: Path) -> Iterator[Generator]:
    """Our engine on these very weights."""
    generator = open_generator("llama.cpp", model, EngineSettings(N_CTX, 1, fast_copy=False))
    try:
        yield generator
    finally:
        generator.close()


def reference(task: Task, form: Form, inputs: Sequence[str], model: Path, adapter: Path | None) -> Reference:
    """Training's prompts, and our greedy answers to them."""
    with opened(model) as generator:
        if adapter is not None:
            generator.use_adapter(adapter)
        prompts = [answer_prompt(task, form, text) for text in inputs]
        sampling = Sampling(max_tokens=N_NEW, stop=answer_stops(task, form))
        asked = [Prompt(str(i), prompt, sampling) for i, prompt in enumerate(prompts)]
        texts = {done.prompt_id: done.text.strip() for done in generator.generate(asked)}
        ids = [list(generator.tokenize(prompt)) for prompt in prompts]
    return Reference(ids, [texts[str(i)] for i in range(len(inputs))])


def ask(client: Client, case: Path, node: Path | None) -> dict[str, Any]:
    """What a client says, from a process of its own; `missing` or `failed` says why it says nothing."""
    if missing := missing_of(client, node):
        return {"missing": missing}
    if client.npm and node is not None:
        command = ["node", shutil.copy(HERE / "clients.mjs", node), client.name, str(case)]
    else:
        command = [sys.executable, str(HERE / "clients_python.py"), client.name, str(case)]
    told = None
    if client.go:
        command, told = ["go", "run", str(HERE / "ollama.go")], f"[{case.read_text()}]"
    try:
        done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer in {TIMEOUT_S} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]}
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**said, "texts": said["texts"][0], "note": "Modelfile"} if client.go else said


def missing_of(client: Client, node: Path | None) -> str:
    """What a client needs that is not here; empty where all is."""
    if client.go:
        return "" if shutil.which("go") else "Go is not installed"
    if not client.npm:
        absent = [name for name in client.needs if importlib.util.find_spec(name.partition(".")[0]) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""
    if shutil.which("node") is None:
        return "Node is not installed"
    if node is None or not (node / "node_modules" / client.needs[0]).is_dir():
        return f"not installed: {client.needs[0]} (--node DIR)"
    return ""


def judged(
    client: Client, said: dict[str, Any], references: dict[str, Reference], case: dict[str, Any], generator: Generator
) -> Row:
    """A client's line of the table."""
    if why := said.get("missing") or said.get("failed"):
        return Row(client.name, against=client.against, note=why, ran=False)
    wanted = references[client.against]
    answers = said.get("answers")
    same = None if answers is None else equal([one.strip() for one in answers], wanted.answers)
    keys = said.get("metadata")
    n_keys = None if keys is None else sum(keys[key] == value for key, value in case["metadata"].items())
    note = said.get("note", "") if n_keys is None else f"{n_keys} of {len(case['metadata'])} keys equal"
    return Row(client.name, said["version"], client.against, prompts_of(said, wanted, generator), same, n_keys, note)


def prompts_of(said: dict[str, Any], wanted: Reference, generator: Generator) -> int | None:
    """How many prompts have training's ids, as far as a client shows it."""
    if "ids" in said:
        return equal(said["ids"], wanted.ids)
    if "texts" in said:
        return equal([ids_of(text, generator) for text in said["texts"]], wanted.ids)
    return equal(said["lengths"], list(map(len, wanted.ids))) if "lengths" in said else None


def ids_of(text: str, generator: Generator) -> list[int]:
    """The ids of a rendered prompt; a beginning of sequence that the text has is not put there twice."""
    bos = generator.info.bos
    bare = text.removeprefix(bos) if generator.info.add_bos and bos else text
    return list(generator.tokenize((Segment(bare),)))


def equal(found: Sequence[Any], wanted: Sequence[Any]) -> int:
    return sum(one == other for one, other in zip(found, wanted, strict=True))


def ollama_as_text(case: dict[str, Any], wanted: Reference, generator: Generator) -> Row:
    """Where no Go template implementation is installed: the tests' reader of Go's text/template in its place."""
    texts = [prompt_of(case["modelfile"], text) for text in case["inputs"]]
    same = prompts_of({"texts": texts}, wanted, generator)
    return Row(AS_TEXT, "", "file", same, note="by the tests' own reader, not Go's")


def drawn(rows: Sequence[Row], n: int) -> Table:
    """The table for people."""
    table = Table("client", "version", "weights", "prompts", "answers", "note")
    for row in rows:
        counts = ("–" if count is None else f"{count} of {n}" for count in (row.prompts, row.answers))
        table.add_row(row.client, row.version, row.against, *counts, Text(row.note))
    return table


if __name__ == "__main__":
    sys.exit(main())
