"""How often a run reads the whole base: a file of gigabytes, four seconds each time."""

from __future__ import annotations

import hashlib
import os

import pytest
from tiny_models import TinySpec, write_model

from sg_local.job.begun import job_for_task
from sg_local.job.options import Home, Options
from sg_local.job.stages import AFTER_REVIEW, perform_all
from sg_local.records import Candidate, Verdict
from sg_local.run import CANDIDATES, VERDICTS

pytest.importorskip("llama_cpp")
pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

SMALL = {
    "train": {"epochs": 1.0, "rank": 2, "n_threads": 1},
    "engine": {"n_ctx": 256, "n_parallel": 2, "n_threads": 1},
    "export": {"types": ["F16"]},
    "eval": {"resamples": 50},
}


def test_a_run_reads_its_base_once(tmp_path, routing, monkeypatch):
    """Rows as synthesis leaves them, then training, export and evaluation on one model and again in a second job."""
    model = write_model(tmp_path / "base.gguf", TinySpec(type="F32", head_type="F32", width=64, ffn=128, context=512))
    os.utime(model, (1e9, 1e9))  # a base has lain there for a while
    real, read = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(str(file.name)) or real(file, kind))
    chosen = Options(runs=tmp_path / "runs", name="one", model=str(model), form="plain", settings=SMALL)
    for _ in range(2):
        with job_for_task(routing, chosen, Home(tmp_path / "home")) as job, job.lock():
            if not job.run.path(CANDIDATES).exists():
                pairs = [(f"Line {i} of many.", routing.labels[i % 3]) for i in range(6)]
                rows = [Candidate(f"r{i}", text, label, {label: 1}, 1, 1.0) for i, (text, label) in enumerate(pairs)]
                job.run.append(CANDIDATES, rows)
                job.run.append(VERDICTS, [Verdict(row.id, True, "filters") for row in rows])
            perform_all(job, lambda event: None, AFTER_REVIEW)
    assert job.run.stamp("train") and job.run.stamp("eval")
    assert read.count(str(model)) == 1
