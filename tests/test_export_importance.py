"""Types encoded with an importance matrix of the run's own rows: made, chosen where better, refused without rows."""

from __future__ import annotations

import dataclasses
import json

import pytest
from test_export import fused_path, make_job
from tiny_models import TinySpec

from sg_local import export, gguf
from sg_local.export.auto import fuse_auto
from sg_local.export.fused import Fuser
from sg_local.export.importance import importance_of
from sg_local.export.job import Check, ExportEvent
from sg_local.records import SgError
from sg_local.views.progress import export_progress

SPEC = TinySpec(type="F16", head_type="F16", layers=1)


def with_rows(job, n=6):
    """The job's run with rows that trained its adapter."""
    job.run.root.mkdir(parents=True, exist_ok=True)
    rows = [{"id": str(i), "input": f"a thing of colour {i}", "output": ("red", "blue")[i % 2]} for i in range(n)]
    job.run.path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return job


def test_a_weighted_type_is_made_of_the_run_s_rows_and_says_so(tmp_path):
    job = with_rows(make_job(tmp_path, SPEC, size=0.1, types=("Q4_K_M", "Q4_K_M_imat")))
    events = []
    plain, weighted = export.export(job, events.append).fused
    assert ("importance", job.base.name) in [(event.phase, event.file) for event in events]
    assert weighted.passed and weighted.size_bytes == pytest.approx(plain.size_bytes, rel=0.01)
    assert weighted.types == plain.types and weighted.sha256 != plain.sha256
    with gguf.GgufFile(fused_path(job, "Q4_K_M_imat")) as file, gguf.GgufFile(fused_path(job, "Q4_K_M")) as other:
        assert file.value("general.file_type") == other.value("general.file_type") == 15
        assert file.value("quantize.imatrix.entries_count") == len(importance_of(job)) > 0
        assert str(tmp_path) not in str(file.value("quantize.imatrix.dataset"))
        assert other.value("quantize.imatrix.entries_count") is None
        name = "blk.0.ffn_up.weight"
        assert (file.rows(file.tensors[name]) != other.rows(other.tensors[name])).any()
    again = []
    assert export.export(job, again.append).fused[1].sha256 == weighted.sha256
    assert not {"importance", "merge"} & {event.phase for event in again}


def test_a_weighted_type_without_rows_is_refused_before_any_work(tmp_path):
    job = make_job(tmp_path, SPEC, types=("IQ4_XS_imat",))
    with pytest.raises(SgError, match="IQ4_XS_imat is encoded by what counts for the rows"):
        export.export(job)
    assert list(job.run.root.glob("*.gguf*")) == []


def test_without_rows_auto_tries_no_weighted_type(tmp_path):
    job = make_job(tmp_path, SPEC)
    fuser = Fuser(job, gguf.read_adapter(job.adapter), "", lambda _: None)
    assert not set(fuser.candidates()) & set(gguf.WEIGHTED_TYPES)
    assert set(gguf.WEIGHTED_TYPES) <= set(fuser_of(job).candidates())


def test_what_loses_the_delta_without_weights_costs_no_measurement(tmp_path, monkeypatch):
    """A base's own grid: rounding to the nearest step erases the delta."""
    job = with_rows(make_job(tmp_path, TinySpec(type="Q4_1", layers=1), size=0.005))
    monkeypatch.setattr("sg_local.export.fused.importance_of", lambda job: pytest.fail("measured"))
    assert not fuser_of(job).looks_fit("Q5_K_M_imat")


def fuser_of(job) -> Fuser:
    return Fuser(with_rows(job), gguf.read_adapter(job.adapter), "", lambda _: None)


@pytest.mark.parametrize(
    ("losses", "fits", "kept"),
    [
        ({"Q4_K_M": 1.0, "Q4_K_M_imat": 0.9}, True, "Q4_K_M_imat"),
        ({"Q4_K_M": 1.0, "Q4_K_M_imat": 1.1}, True, "Q4_K_M"),
        ({"Q4_K_M": 1.0}, False, "Q4_K_M"),
        ({"Q4_K_M": None}, True, "Q4_K_M"),  # no validation rows: nothing says which is better
        ({"Q4_K_M_imat": 1.1}, True, "Q4_K_M_imat"),  # without weights it fails its gate
    ],
)
def test_auto_keeps_the_better_of_a_type_with_and_without_weights(tmp_path, monkeypatch, losses, fits, kept):
    fuser = fuser_of(make_job(tmp_path, SPEC))
    tried = []

    def fuse(self, type, reference):
        tried.append(type)
        file = fused_path(self.job, type)
        file.write_text(type)
        loss = losses.get(type)
        nll = {} if loss is None else {"export": loss}
        return dataclasses.replace(
            SAMPLE, file=file.name, type=type, nll=nll, checks=(Check("gate", type in losses, ""),)
        )

    monkeypatch.setattr(Fuser, "candidates", lambda self: ["Q4_K_M", "Q4_K_M_imat", "F16"])
    monkeypatch.setattr(Fuser, "looks_fit", lambda self, type: fits or not type.endswith("_imat"))
    monkeypatch.setattr(Fuser, "fuse", fuse)
    chosen = fuse_auto(fuser, None)
    assert (chosen.type, chosen.auto, chosen.passed) == (kept, True, True)
    assert {path.name for path in fuser.job.run.root.glob("*.gguf*")} == {chosen.file}
    assert "F16" not in tried


SAMPLE = export.FusedFile("", "", 0, "", {}, 1, {}, {}, {}, None, (), 0.0, "")


def test_the_stage_tells_what_it_measures():
    assert "measuring what matters" in export_progress(ExportEvent("importance", "base.gguf")).phase
