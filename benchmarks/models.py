"""Every stage on every architecture that is trained, and how far each is from llama.cpp: the tables of docs/models.md.

    python benchmarks/models.py [--full] [--write] [NAME ...]

Each architecture of the table (sg_local/gguf/architectures.py) gets a tiny random model of its own, written by the
tests' tiny_architectures.py: nothing is fetched, and nothing here tells how good a real model is. Measured in float32,
with an adapter a tenth as large as the weights: the largest difference of a logit from llama.cpp's for the base and for
base + adapter in each trainer, of the merged file from base + adapter, of one trainer from the other; and the relative
error of the adapter's gradient when rows share their prefix. Then a job is walked on a Q8_0 file: synthesis whose noise
passes for rows, both trainers, the exports, evaluation, an answer, a request over HTTP. The default is a trial of three
architectures that differ most; `--full` takes all, and writes the folders for transformers and mlx-lm, too, which their
own libraries load for the gate. `--write` (with `--full`, and all
architectures) writes docs/models.md. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tests_path  # noqa: F401 - the tests write the tiny models
from tiny_architectures import (
    examples,
    mlx_gradient,
    mlx_side,
    relative_error,
    spec_of,
    talker_of,
    torch_gradient,
    torch_side,
    write_pair,
)
from tiny_models import write_model
from tiny_walk import TASK, asked_over_http, served, small_settings

import sg_local as sg
from sg_local import gguf
from sg_local.backends.training.parity import _reference_logits as reference_logits
from sg_local.backends.training.parity import probe_tokens
from sg_local.gguf.architectures import ARCHITECTURES
from sg_local.home import ModelFolders
from sg_local.models import Card, read_cards
from sg_local.records import SgError

DOC = Path(__file__).resolve().parents[1] / "docs" / "models.md"
TRAINED = [row for row in ARCHITECTURES.values() if not row.refused]
QUICK = ("llama", "gemma3", "phi3")  # separate heads and matrices; head norms and windows; fused matrices
STAGES = ("synth", "filter", "train torch", "train mlx", "adapter GGUF", "Q8_0", "Q4_K_M")
STAGES += ("--hf", "--mlx", "Modelfile", "eval", "predict", "serve")
FOLDERS = ("--hf", "--mlx")
DIFFERENCES = ("base, torch", "base, MLX", "adapter, torch", "adapter, MLX", "merged", "torch - MLX")
GRADIENTS = ("gradient, torch", "gradient, MLX")
TEXT = "I was charged for the parcel."


@dataclass
class Found:
    """One architecture's line in each table: what was measured, and by stage `yes` or why not."""

    name: str
    measured: dict[str, float] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> list[str]:
        """The stages that did not work, and the differences beyond the row's tolerance."""
        limit = ARCHITECTURES[self.name].tolerance
        far = [name for name in DIFFERENCES if not self.measured[name] <= limit]
        far += [name for name in GRADIENTS if not self.measured[name] <= 1e-4]
        return far + [stage for stage, came in self.stages.items() if came != "yes"]


def measure(folder: Path, name: str) -> dict[str, float]:
    """Largest differences between logits, and relative errors of gradients."""
    from sg_local.backends.mlx.forward import logits as mlx_logits
    from sg_local.backends.torch.forward import logits as torch_logits
    from sg_local.backends.torch.packing import pack_tokens

    model, adapter = write_pair(folder, name)
    config, kinds = gguf.read_config(model), {"base": None, "adapter": adapter}
    tokens, layers = probe_tokens(examples(), config.context), tuple(range(config.layers))
    wanted = {kind: reference_logits(model, path, tokens) for kind, path in kinds.items()}
    base, lora = torch_side(model, adapter)
    plain, adapted = mlx_side(model, None), mlx_side(model, adapter)
    packed = pack_tokens(tokens, lora.flat.device)
    ours = {
        "base, torch": torch_logits(base, None, packed).numpy(),
        "base, MLX": mlx_logits(plain, tokens, layers),
        "adapter, torch": torch_logits(base, lora, packed).numpy(),
        "adapter, MLX": mlx_logits(adapted, tokens, layers),
    }
    found = {side: largest(logits, wanted[side.split(",")[0]]) for side, logits in ours.items()}
    found["merged"] = largest(reference_logits(merged(folder, model, adapter), None, tokens), wanted["adapter"])
    found["torch - MLX"] = largest(ours["adapter, torch"], ours["adapter, MLX"])
    whole, shared = (torch_gradient(base, lora, shared=share) for share in (False, True))
    found["gradient, torch"] = relative_error(shared, whole)
    whole, shared = (mlx_gradient(adapted, shared=share) for share in (False, True))
    found["gradient, MLX"] = relative_error(shared, whole)
    return found


def merged(folder: Path, model: Path, adapter: Path) -> Path:
    """Base and adapter as one file, still in float32."""
    path, pair = folder / "merged.gguf", gguf.read_adapter(adapter)
    with gguf.GgufFile(model) as source:
        gguf.merge(path, source, pair, gguf.MergeSettings("same"), lambda _: None)
    return path


def largest(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def walk(folder: Path, name: str, full: bool) -> dict[str, str]:
    """Every stage of a job, by what came of it."""
    model = write_model(folder / "talker.gguf", talker_of(name))
    came: dict[str, str] = {}

    def job(trainer: str) -> sg.Job:
        places = {"home": folder / "home", "runs": folder / "runs", "name": trainer}
        folders = {kind[2:]: str(folder / kind[2:]) for kind in FOLDERS if full}
        return sg.open_job(TASK, model=model, form="chat", trainer=trainer, settings=small_settings(folders), **places)

    with job("torch") as tuned:
        attempt(came, "synth", tuned.synth)
        attempt(came, "filter", tuned.filter)
        attempt(came, "train torch", tuned.train)
        exported(came, tuned, full)
        attempt(came, "eval", tuned.evaluate)
        attempt(came, "predict", lambda: tuned.predict([TEXT]))
        attempt(came, "serve", lambda: same_over_http(tuned, folder / "home"))
    with job("mlx") as other:
        attempt(came, "train mlx", lambda: (other.synth(), other.filter(), other.train()))
    return {stage: came[stage] for stage in STAGES if stage in came}


def attempt(came: dict[str, str], stage: str, work: Callable[[], object]) -> None:
    """Run a stage, and keep what its SgError says."""
    try:
        work()
        came[stage] = "yes"
    except SgError as error:
        came[stage] = error.message


def exported(came: dict[str, str], job: sg.Job, full: bool) -> None:
    """The export, and the gate of each file and folder that it wrote."""
    attempt(came, "adapter GGUF", job.export)
    if came["adapter GGUF"] != "yes" and not (job.folder / "export.json").exists():
        return
    came["adapter GGUF"] = "yes" if (job.folder / "adapter.gguf").exists() else came["adapter GGUF"]
    made = json.loads((job.folder / "export.json").read_text())
    for file in made["fused"]:
        came[file["type"]] = verdict(file)
    for kind, folder in zip(("--mlx", "--hf"), made["folders"], strict=False):
        came[kind] = verdict(folder)
    came["Modelfile"] = "yes" if "\nTEMPLATE " in (job.folder / "Modelfile").read_text() else "no TEMPLATE"


def verdict(made: dict) -> str:
    """`yes` where every check was measured and passed, else the first that was not."""
    short = [check for check in made["checks"] if not (check["passed"] and check["measured"])]
    return f"{short[0]['name']}: {short[0]['value']}" if short else "yes"


def same_over_http(job: sg.Job, home: Path) -> None:
    """Raise SgError where the server answers otherwise than `predict`."""
    (wanted,) = job.predict([TEXT])
    job.close()
    with served(job, home) as address:
        found = asked_over_http(address, TEXT)
    if found != wanted:
        raise SgError(f"the server says {found!r}, predict {wanted!r}")


def refusals(folder: Path) -> dict[str, str]:
    """What is not trained, and the sentence that says so, from files that are made for it."""
    model = write_model(folder / "plain.gguf", spec_of("llama"))
    cases = {
        "mixtures of experts, by name (qwen3moe)": {"general.architecture": "qwen3moe"},
        "Llama 4": {"general.architecture": "llama4"},
        "gpt-oss": {"general.architecture": "gpt-oss"},
        "hybrids (LFM2)": {"general.architecture": "lfm2"},
        "state-space models (Mamba)": {"general.architecture": "mamba"},
        "long context by two sets of factors (longrope)": {"llama.rope.scaling.type": "longrope"},
        "one part of a split file": {"split.count": 2},
    }
    found = {}
    for what, fields in cases.items():
        gguf.copy_with_fields(model, folder / "other.gguf", fields)
        try:
            found[what] = gguf.check_model(folder / "other.gguf").cannot_train
        except SgError as error:
            found[what] = error.message.replace(str(folder / "other.gguf"), "it")
    plan = gguf.TensorPlan("blk.0.ffn_gate_inp.weight", (8, 256), "F32")
    found["mixtures of experts under a known name"] = with_tensor(model, folder / "more.gguf", plan)
    return found


def with_tensor(model: Path, path: Path, plan: gguf.TensorPlan) -> str:
    """Why the model with one tensor more cannot be trained."""
    with gguf.GgufFile(model) as file:
        plans = [gguf.TensorPlan(tensor.name, tensor.shape, tensor.type) for tensor in file.tensors.values()]
        entries = [entry.raw for entry in file.fields.values()]

        def rows(wanted: gguf.TensorPlan) -> list[np.ndarray]:
            return [np.zeros(plan.shape, np.float32) if wanted is plan else file.rows(file.tensors[wanted.name])]

        gguf.write_gguf(path, gguf.FilePlan(entries, [*plans, plan]), rows)
    return gguf.check_model(path).cannot_train


def shelf() -> list[Card]:
    """The cards that come with sg-local."""
    nowhere = Path("nowhere")
    return list(read_cards(ModelFolders(nowhere, nowhere)).values())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(found: Sequence[Found], refused: dict[str, str]) -> str:
    """docs/models.md."""
    names = [f"`{one.name}`" for one in found]
    stages = [[name, *(one.stages.get(stage, "") for stage in STAGES)] for name, one in zip(names, found, strict=True)]
    kinds = (*DIFFERENCES, *GRADIENTS)
    measured = [
        [name, f"{ARCHITECTURES[one.name].tolerance:g}", *(f"{one.measured[kind]:.1e}" for kind in kinds)]
        for name, one in zip(names, found, strict=True)
    ]
    cards = [
        [f"`{card.name}`", place(card), ", ".join(card.source.files) or "one file", card.licence]
        + [f"{card.n_ctx}", f"`{card.architecture}`"]
        for card in shelf()
    ]
    return PAGE.format(
        models=table(("architecture", "models"), [[f"`{row.name}`", row.models] for row in TRAINED]),
        stages=table(("architecture", *STAGES), stages),
        measured=table(("architecture", "allowed", *kinds), measured),
        refused=table(("not trained", "what is said"), [[what, said] for what, said in refused.items()]),
        shelf=table(("name", "repository", "quantisations", "licence", "context", "architecture"), cards),
    )


def place(card: Card) -> str:
    """Where a card's file comes from."""
    return card.source.repo or f"PyPI: {str(card.source.package).replace('_', '-')}"


PAGE = """\
# Models

Generated by `python benchmarks/models.py --full --write`, which makes a tiny random model of each architecture and runs
every stage on it. A test checks the names in these tables against the code.

## Architectures
Adapters can be trained for dense models of these architectures, whichever program downloaded them:

{models}

The stages tested on each, with a Q8_0 file: synthesis (of random text), both trainers, `adapter.gguf`, fused files and
folders with their gates (loads, keeps the adapter's changes, same tokens, same loss), a Modelfile with the model's own
template, the evaluation, one answer, and the same answer over HTTP.

{stages}

## Measured
In float32, with an adapter a tenth as large as the weights. *Base* and *adapter*: the largest difference between our
logits and llama.cpp's over 64 to 96 tokens; if it exceeds the allowed figure, training stops with exit code 3.
*Merged*: the fused file against base + adapter, both in llama.cpp. *Gradient*: the relative error with a shared prefix,
against separate whole rows.

{measured}

## Not trained
Other models that llama.cpp runs cannot be trained. `sg-local models show` and `doctor` say so, and a run is refused at
the start, before any work:

{refused}

## Models to download
`sg-local models pull NAME` or `NAME:QUANTISATION` downloads these; `sg-local models show NAME` shows more details.

{shelf}

Not run here: real weights other than SmolLM2-135M, and Apple's Metal (MLX ran on a CPU).
"""


def report(folder: Path, options: argparse.Namespace) -> dict:
    """Everything measured; docs/models.md where it is asked for."""
    found, names = [], options.names or ([row.name for row in TRAINED] if options.full else QUICK)
    for row in TRAINED:
        if row.name not in names:
            continue
        began, place = time.monotonic(), folder / row.name
        place.mkdir()
        one = Found(row.name, measure(place, row.name), walk(place, row.name, options.full))
        one.seconds = round(time.monotonic() - began, 1)
        found.append(one)
        worst = max(one.measured[kind] for kind in DIFFERENCES)
        said = "every stage works" if not one.failed else f"not: {', '.join(one.failed)}"
        print(f"{row.name:12} {one.seconds:6.1f} s  logits within {worst:.1e}, {said}", flush=True)
    refused = refusals(folder)
    if options.write:
        DOC.write_text(document(found, refused), encoding="utf-8")
    return {
        "benchmark": "models",
        "full": options.full,
        "measured": {one.name: {kind: float(f"{value:.2g}") for kind, value in one.measured.items()} for one in found},
        "failed": {one.name: {each: one.stages.get(each, "") for each in one.failed} for one in found if one.failed},
        "seconds": {one.name: one.seconds for one in found},
        "refused": refused,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures (a few; all with --full)")
    parser.add_argument(
        "--full", action="store_true", help="all architectures; the folders too: half a minute more for each"
    )
    parser.add_argument("--write", action="store_true", help="write docs/models.md")
    options = parser.parse_args()
    unknown = set(options.names) - {row.name for row in TRAINED}
    if unknown or (options.write and (options.names or not options.full)):
        parser.error(f"there is no {', '.join(unknown)}" if unknown else "--write takes all architectures, and --full")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(report(Path(folder), options)))


if __name__ == "__main__":
    main()
