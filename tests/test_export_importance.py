"""Types encoded with an importance matrix of the run's own rows: made, chosen where better, refused without rows."""

from __future__ import annotations

import dataclasses
import json

import pytest
from test_export import fused_path, make_job
from tiny_models import TinySpec

from sg_local import export, gguf
from sg_local.export.auto import fuse_auto
from sg_local.export.fused import REJECTED, Fuser
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
    assert "quantize.imatrix.*" in next(check.wanted for check in weighted.checks if check.name == "metadata")
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
    assert not set(fuser.candidates) & set(gguf.WEIGHTED_TYPES)
    assert set(gguf.WEIGHTED_TYPES) <= set(fuser_of(job).candidates)


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
    tried = pretending(monkeypatch, losses)
    monkeypatch.setattr(Fuser, "candidates", ["Q4_K_M", "Q4_K_M_imat", "F16"])
    monkeypatch.setattr(Fuser, "looks_fit", lambda self, type: fits or not type.endswith("_imat"))
    chosen = fuse_auto(fuser, None, {})
    assert (chosen.type, chosen.auto, chosen.passed) == (kept, True, True)
    assert {path.name for path in fuser.job.run.root.glob("*.gguf*")} == {chosen.file}
    assert "F16" not in tried


def pretending(monkeypatch, losses, **raised):
    """Files that are quickly made, of these losses or not passed; the list of types that are tried."""
    tried = []

    def fuse(self, type, reference):
        tried.append(type)
        if type in raised:
            raise raised[type]
        path = fused_path(self.job, type)
        path = path if type in losses else path.with_name(path.name + REJECTED)
        path.write_text(type)
        loss = losses.get(type)
        return dataclasses.replace(
            SAMPLE,
            file=path.name,
            type=type,
            size_bytes=len(type),
            nll={} if loss is None else {"export": loss},
            checks=(Check("gate", type in losses, ""),),
            fingerprint=self.fingerprint(type),
        )

    monkeypatch.setattr(Fuser, "candidates", ["Q5_K_M", "Q4_K_M", "Q4_K_M_imat", "F16"])
    monkeypatch.setattr(Fuser, "looks_fit", lambda self, type: True)
    monkeypatch.setattr(Fuser, "fuse", fuse)
    monkeypatch.setattr("sg_local.export.stage.take_reference", lambda job: None)
    return tried


def asking(job, *types, **settings):
    return dataclasses.replace(job, settings=dataclasses.replace(job.settings, types=types, **settings))


def left_of(job):
    """What export.json lists, and what lies there."""
    rows = json.loads(job.run.path("export.json").read_text())["fused"]
    return {row["file"] for row in rows}, {path.name for path in job.run.root.glob("*-v1.0-*.gguf*")}


BETTER_WEIGHTED = {"Q4_K_M": 1.0, "Q4_K_M_imat": 0.9}


@pytest.mark.parametrize(
    ("asked", "losses"),
    [("Q4_K_M", BETTER_WEIGHTED), ("Q4_K_M_imat", {"Q4_K_M": 1.0, "Q4_K_M_imat": 1.1})],
)
@pytest.mark.parametrize("at_once", (True, False), ids=("one-command", "two-commands"))
@pytest.mark.parametrize("settings", ({}, {"min_gain": 0.5}), ids=("same-settings", "other-settings"))
def test_auto_leaves_a_file_that_was_asked_for_by_its_type(tmp_path, monkeypatch, asked, losses, at_once, settings):
    """The better twin of it is chosen, and it stays all the same, as export.json has it."""
    job = with_rows(make_job(tmp_path, SPEC))
    tried = pretending(monkeypatch, losses)
    if at_once:
        report = export.export(asking(job, asked, "auto", **settings))
        assert len(tried) == len(set(tried)), "made twice"
    else:
        export.export(asking(job, asked))
        report = export.export(asking(job, "auto", **settings))
        assert tried.count(asked) == (2 if settings else 1)
    chosen = next(file for file in report.fused if file.auto)
    assert {chosen.type, asked} == {"Q4_K_M", "Q4_K_M_imat"}
    listed, there = left_of(job)
    assert listed == there and {chosen.file, fused_path(job, asked).name} <= there
    rows = json.loads(job.run.path("export.json").read_text())["fused"]
    fuser = fuser_of(asking(job, "auto", **settings))
    fuser.adapter_digest = report.adapter_sha256
    assert all(row["fingerprint"] == fuser.fingerprint(row["type"]) for row in rows)


def test_auto_leaves_a_failed_file_that_was_asked_for_by_its_type(tmp_path, monkeypatch):
    job = with_rows(make_job(tmp_path, SPEC))
    pretending(monkeypatch, BETTER_WEIGHTED)
    with pytest.raises(SgError, match="did not pass its gate"):
        export.export(asking(job, "Q5_K_M", "auto"))
    listed, there = left_of(job)
    assert listed == there == {fused_path(job, "Q5_K_M").name + REJECTED, fused_path(job, "Q4_K_M_imat").name}


def test_a_twin_that_cannot_be_made_costs_nobody_the_file_that_passed(tmp_path, monkeypatch):
    """The disk has room for the plain file, and not for its twin beside it."""
    fuser = fuser_of(make_job(tmp_path, SPEC))
    tried = pretending(monkeypatch, BETTER_WEIGHTED, Q4_K_M_imat=SgError("The export needs 1 GB.", "Free some space."))
    chosen = fuse_auto(fuser, None, {})
    assert (chosen.type, chosen.passed, tried[-1]) == ("Q4_K_M", True, "Q4_K_M_imat")
    assert fused_path(fuser.job, "Q4_K_M").exists()


def test_where_nothing_can_be_measured_a_weighted_type_is_refused_and_auto_does_without(tmp_path, monkeypatch):
    monkeypatch.setattr("sg_local.export.fused.importance_of", lambda job: {})
    job = with_rows(make_job(tmp_path, SPEC, size=0.1))
    assert not fuser_of(job).looks_fit("Q4_K_M_imat")
    with pytest.raises(SgError, match="could not be measured"):
        export.export(asking(job, "Q4_K_M_imat"))
    assert list(job.run.root.glob("*-v1.0-*")) == []
    assert not export.export(asking(job, "auto")).fused[0].type.endswith("_imat")


def test_a_plain_type_is_looked_at_once_for_itself_and_its_twin(tmp_path, monkeypatch):
    fuser, looked = fuser_of(make_job(tmp_path, SPEC, size=0.1)), []
    monkeypatch.setattr(Fuser, "_sample_fits", lambda self, type: looked.append(type) or True)
    assert fuser.looks_fit("Q4_K_M") and fuser.looks_fit("Q4_K_M_imat")
    assert looked == ["Q4_K_M", "Q4_K_M_imat"]


def test_a_training_row_that_does_not_fit_the_export_s_context_is_not_measured(tmp_path):
    job = with_rows(make_job(tmp_path, SPEC))
    wanted = importance_of(job)
    rows = job.run.path("train.jsonl").read_text()
    long = json.dumps({"id": "long", "input": "a thing " * 600, "output": "red"}) + "\n"
    job.run.path("train.jsonl").write_text(long + rows)
    found = importance_of(job)
    assert found.keys() == wanted.keys()
    assert all((found[name] == wanted[name]).all() for name in wanted)
    job.run.path("train.jsonl").write_text(long)
    assert importance_of(job) == {}


SHARES = {"low": 1.0, "median": 1.0, "mean": 1.0}
SAMPLE = export.FusedFile("", "", 0, "", {}, 1, SHARES, {}, {}, None, (), 0.0, "")


def test_the_stage_tells_what_it_measures():
    assert "measuring what matters" in export_progress(ExportEvent("importance", "base.gguf")).phase


def test_the_live_view_names_the_base_s_own_types_in_words():
    phases = [export_progress(ExportEvent("weigh", type)).phase for type in ("same", "Q4_0")]
    assert phases == [f"testing whether {one} keeps the quality" for one in ("the base's own mix of types", "Q4_0")]
