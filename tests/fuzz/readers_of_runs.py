"""Readers of what sg-local has written itself, and anybody may have changed: runs, training, caches."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sound
from attempts import Reader, written
from formats import zip_changed
from mixes import JSON, LINES, TEXT
from mutators import Mutator, bytes_changed

from sg_local import files, filters
from sg_local.backends import TrainSettings
from sg_local.backends.llama_cpp import probe
from sg_local.backends.training.checkpoint import CHECKPOINT, TrainJob, TrainProgress, load_checkpoint, save_checkpoint
from sg_local.backends.training.handover import JOB, TRAIN, VALID, read_job
from sg_local.cache import digests_by_path
from sg_local.evaluate import judged_rows
from sg_local.home import ModelFolders
from sg_local.job.options import Home, Options
from sg_local.job.own import OwnRow
from sg_local.job.review import ReviewPlace
from sg_local.job.search import Trial
from sg_local.job.trials import Bench, check_facts
from sg_local.models.hub import cached_names
from sg_local.models.stores import found_models
from sg_local.reading import read_record
from sg_local.records import Answer, Candidate, InputRow, TrainStep, Verdict
from sg_local.report import read_report
from sg_local.report.answers import groups
from sg_local.report.confusion import columns, confused
from sg_local.report.facts import gain_lines, reliability_lines, systems_by_family
from sg_local.report.figure import before_after
from sg_local.review import Note
from sg_local.run import ANSWERS, REPORT, STAGES, Run
from sg_local.training import TrainingRow
from sg_local.views.runs import own_rows, run_facts


def _journal(name: str, cls: type, made: Callable[[], Any], *, of: str = "run") -> Reader:
    def read(path: Path) -> str:
        return written(Run(path.parent).read(path.name, cls))

    return Reader(f"journal_{name}", f"{of}/{name}.jsonl", made, LINES, read)


JOURNALS = (
    _journal("inputs", InputRow, sound.lines(sound.INPUTS)),
    _journal("candidates", Candidate, sound.lines(sound.CANDIDATES)),
    _journal("verdicts", Verdict, sound.lines(sound.VERDICTS)),
    _journal("notes", Note, sound.lines([Note(id, "me", "ask bob", 2) for id in sound.IDS])),
    _journal("train", TrainingRow, sound.lines([TrainingRow(id, "a", "b", 2.0) for id in sound.IDS])),
    _journal("answers", Answer, sound.lines(sound.ANSWERS)),
    _journal("trials", Trial, sound.lines([Trial("t", 0.5, 2.0, 10.0, 20.0, "base", "tuned", 4, 30)] * 2)),
    _journal("own", OwnRow, sound.lines([OwnRow("a", "b", "row"), OwnRow("c", "", "input")])),
)

# Runs


def _copied(name: str) -> Callable[[Path], object]:
    return lambda folder: shutil.copytree(sound.RUNS / name, folder / "runs" / name, dirs_exist_ok=True)


def _run(path: Path) -> object:
    """What the screens ask of a run, and what a stage that goes on does."""
    run = Run(path.parent.parent if path.parent.name == "stages" else path.parent)
    from sg_local.job.begun import job_for_run

    with job_for_run(run.name, Options(runs=run.root.parent), Home(run.root.parent.parent / "home")) as job:
        funnel = filters.funnel(run, job.task)
        stamps = {stage: run.stamp(stage) for stage in STAGES}
        damaged = {stage: run.damaged(stage) for stage in STAGES}
        return written([run_facts(run), own_rows(run), funnel, stamps, damaged, job.record])


def _run_reader(name: str, file: str, kinds: tuple[Mutator, ...], read: Callable[[Path], object] = _run) -> Reader:
    return Reader(name, f"runs/route/{file}", sound.of_run(f"route/{file}"), kinds, read, _copied("route"))


def _report(path: Path) -> object:
    """The report, and what the screens and the page make of it."""
    run = Run(path.parent)
    report = read_report(run)
    lines = [list(gain_lines(report)), systems_by_family(report), reliability_lines(report), groups(run, report)]
    drawn = [confused(report), columns(report), before_after(report)]
    return written(report), written(lines), written(drawn), written(judged_rows(run, "all"))


RUN_FILES = (
    _run_reader("run_json", "run.json", JSON),
    *(_run_reader(f"stamp_{stage}", f"stages/{stage}.json", JSON) for stage in ("synth", "filter", "train", "eval")),
    _run_reader("report", REPORT, JSON, _report),
    Reader("answers", f"runs/route/{ANSWERS}", sound.whole(f"route/{ANSWERS}"), LINES, _report, _copied("route")),
    Reader(
        "review_place",
        "review.json",
        sound.as_json({"cursor": "a", "view": {"show": "all", "label": None, "max_votes": 0.5}}),
        JSON,
        lambda path: written(read_record(path, ReviewPlace)),
    ),
)

# Training


def _sound_job(folder: Path) -> None:
    for name, made in (
        (JOB, sound.as_json(sound.TRAIN_JOB)),
        (TRAIN, sound.lines(sound.TOKENS)),
        (VALID, sound.lines(())),
    ):
        (folder / name).write_bytes(made()[0])


def _handover(path: Path) -> object:
    return str(read_job(path.parent))


def _checkpoint(path: Path) -> object:
    found = load_checkpoint(dataclasses.replace(TRAIN_JOB, out=path.parent))
    assert found is not None
    return written(found[0]), [array.shape for array in found[1].values()]


def _sound_checkpoint() -> tuple[bytes, ...]:
    progress = TrainProgress(3, 2, 2, 1, 0.5, 0.7, curve=sound.STEPS)
    with TemporaryDirectory() as folder:
        job = dataclasses.replace(TRAIN_JOB, out=Path(folder))
        save_checkpoint(job, progress, {"a": np.ones((2, 3), np.float32), "adam.step": np.array(3.0, np.float32)})
        return ((job.out / CHECKPOINT).read_bytes(),)


TRAIN_JOB = TrainJob(sound.TOKENS, (), Path("."), TrainSettings(), "00", "torch")
TRAINING = (
    Reader("handover_job", JOB, sound.as_json(sound.TRAIN_JOB), JSON, _handover, _sound_job),
    Reader("handover_rows", TRAIN, sound.lines(sound.TOKENS), LINES, _handover, _sound_job),
    Reader("checkpoint", CHECKPOINT, _sound_checkpoint, (zip_changed, bytes_changed), _checkpoint),
    _journal("curve", TrainStep, sound.lines(sound.STEPS), of="run/adapter"),
)

# Caches, and what other programs keep


def _choice(path: Path) -> object:
    choice = probe._remembered(path, probe.ProbeRequest(path.with_name("m.gguf"), "00", 2, None, 0, path.parent))
    assert choice is None or choice.n_parallel in probe.PARALLEL
    return choice


def _digests(path: Path) -> object:
    """The digest in an entry, which is one or none, and all entries."""
    found = files._digest_in(path)
    assert len(found) in (0, 64)
    return found, digests_by_path(path.parent.parent)


def _ollama(path: Path) -> object:
    root = path.parents[4]
    return found_models(ModelFolders(root / "cards", root / "hub", ollama=(root,)))


def _hub(path: Path) -> object:
    hub = path.parents[2]
    found = list(cached_names(hub))
    inside = hub / "models--owner--repo" / "snapshots"
    assert all(file.is_relative_to(inside) and ".." not in file.parts for _, file in found)
    return found


def _one_snapshot(folder: Path) -> None:
    snapshot = folder / "models--owner--repo/snapshots/0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot / "m.gguf").write_bytes(b"x")


def _search(path: Path) -> object:
    bench = Bench(Run(path.parent), {}, SEARCHED, Home(path.parent / "home"), telling=None, say=lambda text: None)
    data = path.read_bytes()
    try:
        return check_facts(bench)
    finally:
        path.write_bytes(data)


SEARCHED = Options(backend="scripted", trainer="scripted")
CHOICE = {"format": "as given", "path": "/m.gguf", "n_parallel": 32, "n_threads": 2}
TRIED = {**CHOICE, "format": "Q8_0", "trials": [{"format": "Q8_0", "n_parallel": 16, "tokens_per_s": 10.5}]}
FACTS_OF_SEARCH = {"backend": "scripted", "trainer": "scripted", "form": "auto", "seed": 0, "preset": "recommended"}
MANIFEST = {
    "schemaVersion": 2,
    "layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{'1' * 64}", "size": 1}],
}
DIGEST_ENTRY = "digests/0123456789abcdef0123456789abcdef.json"
DIGESTED = {"path": "/m.gguf", "sha256": "1" * 64}

CACHES = (
    Reader("engine_choice", "choice.json", sound.as_json(CHOICE, TRIED), JSON, _choice),
    Reader("digests", DIGEST_ENTRY, sound.as_json({"path": "/m.gguf", "sha256": "1" * 64}), JSON, _digests),
    Reader("ollama_manifest", "manifests/h/n/m/tag", sound.as_json(MANIFEST), JSON, _ollama),
    Reader("hub_reference", "models--owner--repo/refs/main", sound.texts("0123abcd"), TEXT, _hub, _one_snapshot),
    Reader("search_facts", "search.json", sound.as_json(FACTS_OF_SEARCH), JSON, _search),
)
