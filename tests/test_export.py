"""The export stage on tiny real models: files, gate, refusals, provenance, resuming."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_reports import report_of
from test_gguf_config import write_variant
from tiny_models import CHATML, TinySpec, lora_pairs, write_lora, write_model

from sg_local import export, gguf, prompts
from sg_local.backends import EngineSettings, open_generator
from sg_local.export import gate
from sg_local.export.card import model_card
from sg_local.export.fused import Fuser, check_disk
from sg_local.export.gate import Reference
from sg_local.export.loss import check_lost
from sg_local.export.naming import names_of
from sg_local.export.rows import held_out_inputs, held_out_rows, own_rows
from sg_local.files import file_digest
from sg_local.records import Candidate, Pair, SgError, Task, TestRow
from sg_local.report import write_report
from sg_local.run import Run

TASK = Task(
    name="colours",
    kind="generation",
    instruction="Name the colour.",
    examples=(Pair("a fire engine", "red"), Pair("the deep sea", "blue")),
)
VALID = tuple(Pair(f"thing number {i}", "green") for i in range(4))
ALPHA = 8.0


def make_job(folder: Path, spec: TinySpec, size: float = 0.02, form: str = "chat", **settings) -> export.Export:
    """A job on a tiny base with a random adapter, `size` as large as the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    base = write_model(folder / "base.gguf", spec)
    adapter = write_lora(folder / "trained.gguf", lora_pairs(spec, size=size), ALPHA, spec.architecture)
    spm = spec.tokenizer == "spm"
    with gguf.GgufFile(base) as file:
        template = file.value("tokenizer.chat_template")
    choices = prompts.forms(template, "<s>" if spm else "<|im_start|>", "</s>" if spm else "<|im_end|>", spm)
    return export.Export(
        run=Run(folder / "run"),
        task=TASK,
        form=prompts.form_named(choices, form),
        base=base,
        base_digest=file_digest(base),
        adapter=adapter,
        valid=VALID,
        settings=export.ExportSettings(**{"types": ("Q8_0",), "min_equal": 0.0, "n_ctx": 512, **settings}),
        provenance={"funnel": {"asked": 9, "kept": 5, "rules": {"noise": 4}}, "settings": {"train": {"rank": 4}}},
    )


def fused_path(job: export.Export, type: str = "Q8_0") -> Path:
    """Where the file of a type is, or would be."""
    return job.run.path(names_of(job).file(type))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One export to Q8_0, and its report."""
    job = make_job(tmp_path_factory.mktemp("done"), TinySpec(type="Q4_0", layers=1))
    return job, export.export(job)


BASES = (
    TinySpec(type="Q4_0", layers=1),
    TinySpec(type="Q4_1", layers=1, tokenizer="spm", tied=False),
    TinySpec(type="Q5_0", layers=1, kv_heads=4),
    TinySpec(type="Q8_0", layers=1, tokenizer="spm"),
    TinySpec(type="Q4_K", layers=1, kv_heads=4, tied=False),
    TinySpec(type="Q5_K", layers=1, tokenizer="spm", kv_heads=4),
    TinySpec(type="Q6_K", layers=1, tied=False),
    TinySpec(type="F16", layers=1, head_type="F16"),
    TinySpec(type="BF16", layers=1, head_type="BF16", tokenizer="spm", tied=False),
)


@pytest.mark.parametrize("spec", BASES, ids=lambda spec: f"{spec.type}-{spec.tokenizer}")
def test_every_base_exports_to_a_file_that_answers_like_base_and_adapter(tmp_path, spec):
    """llama.cpp: the fused file's scores of an answer against base + adapter's, far from the base's."""
    job = make_job(tmp_path, spec, size=0.1, types=("F16",))
    report = export.export(job)
    assert report.fused[0].passed, report.fused[0].checks
    nll = report.fused[0].nll
    assert abs(nll["export"] - nll["adapter"]) < 0.1 * abs(nll["base"] - nll["adapter"]) + 0.02


def test_an_export_leaves_all_its_files_and_nothing_else(done):
    job, report = done
    names = {path.relative_to(job.run.root).as_posix() for path in job.run.root.rglob("*") if path.is_file()}
    assert names == {
        "adapter.gguf",
        fused_path(job).name,
        "Modelfile",
        "README.md",
        "export.json",
        "stages/export.json",
    }
    assert set(report.written) == names - {"export.json", "stages/export.json"}


def test_the_gate_s_table_has_every_line(done):
    _, report = done
    names = [check.name for check in report.fused[0].checks]
    assert names == [
        "loads and answers",
        "metadata",
        "delta retained",
        "token ids equal",
        "validation loss",
        "greedy answers equal",
    ]
    assert report.fused[0].n_tensors == 7


def test_results_read_back_as_json(done):
    job, report = done
    data = json.loads(job.run.path("export.json").read_text())
    assert data == export.as_json(report)
    assert data["fused"][0]["passed"] is True
    assert data["fused"][0]["sha256"] == file_digest(fused_path(job))


def test_the_card_names_task_data_hashes_licence_and_gate(done):
    job, report = done
    card = job.run.path("README.md").read_text()
    wanted = [TASK.instruction, "apache-2.0", job.base_digest, report.adapter_sha256, report.fused[0].sha256]
    wanted += ["| kept | 5 |", "dropped by noise", "delta retained", "rank = 4"]
    assert [text for text in wanted if text not in card] == []


def test_the_same_export_again_makes_nothing_again(done):
    job, first = done
    before = fused_path(job).stat().st_mtime_ns
    events = []
    again = export.export(job, events.append)
    assert fused_path(job).stat().st_mtime_ns == before
    assert [event.phase for event in events] == ["write"]
    assert again.fused == first.fused


def test_provenance_is_read_back_and_verified(done):
    job, report = done
    found = export.inspect(fused_path(job), job.base, job.run.path("adapter.gguf"))
    assert found.verified == {"base": True, "adapter": True}
    assert found.carries_task
    assert (found.file_type, found.types["Q8_0"]) == ("Q8_0", 8)
    assert found.provenance["task.digest"] == TASK.digest
    assert found.provenance["adapter.sha256"] == report.adapter_sha256
    assert found.provenance["funnel"] == {"asked": 9, "kept": 5, "rules": {"noise": 4}}
    assert export.inspect(fused_path(job), job.adapter).verified == {"base": False, "adapter": True}


def test_a_file_in_its_run_folder_is_verified_without_being_told_how(done, tmp_path):
    job, _ = done
    shutil.copytree(job.run.root, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"model": {"path": str(job.base)}}))
    assert export.inspect(tmp_path / "run" / fused_path(job).name).verified == {"adapter": True, "base": True}
    assert export.inspect(tmp_path / "run" / "adapter.gguf").verified == {"base": True}
    shutil.copy(fused_path(job), tmp_path / "alone.gguf")
    assert export.inspect(tmp_path / "alone.gguf").verified == {}


@pytest.mark.parametrize(
    ("people", "words"),
    (
        ({}, "Every training row was written by the base model itself; no person judged any."),
        ({"accepted": 2, "rejected": 1}, "3 of them: 2 accepted unchanged, 1 rejected. None of the rows"),
        ({"edited": 2, "relabelled": 1}, "3 of them: 2 edited, 1 given another label. 3 of the rows"),
    ),
)
def test_the_card_says_who_wrote_the_rows(done, people, words):
    job, report = done
    told = {**job.provenance, "funnel": {"kept": 5, "people": people}}
    fresh = write_lora(job.adapter.with_name("untold.gguf"), lora_pairs(TinySpec(layers=1)), ALPHA)
    card = model_card(dataclasses.replace(job, provenance=told, adapter=fresh), report)
    assert words in card
    assert ("people judged" in card) is bool(people)


def test_what_the_adapter_says_of_its_rows_goes_before_the_run(done, tmp_path):
    job, _ = done
    told = tmp_path / "told.gguf"
    gguf.copy_with_fields(job.adapter, told, {"sg_local.funnel": '{"kept": 77}'})
    assert dataclasses.replace(job, adapter=told).facts["funnel"] == {"kept": 77}
    assert dataclasses.replace(job, adapter=told).facts["settings"] == job.provenance["settings"]


@pytest.mark.parametrize("changes", ({"fields": [("split.count", 3)]}, {"architecture": "qwen2moe"}))
def test_files_that_cannot_be_merged_into_are_inspected_all_the_same(tmp_path, changes):
    found = export.inspect(write_variant(tmp_path / "odd.gguf", **changes))
    assert (found.kind, found.n_tensors) == ("model", 11)
    assert found.architecture == changes.get("architecture", "llama")


@pytest.mark.parametrize("kept", (0.0, 0.01, 0.5, 0.99))
def test_a_file_that_was_cut_off_is_called_so(done, tmp_path, kept):
    job, _ = done
    data = fused_path(job).read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(SgError, match="cut off" if kept else "not a GGUF"):
        export.inspect(cut)


def test_an_adapter_and_a_foreign_file_are_inspected_too(done):
    job, _ = done
    found = export.inspect(job.run.path("adapter.gguf"), job.base)
    assert (found.kind, found.lora["rank"], found.lora["n_targets"]) == ("adapter", 4, 7)
    assert found.verified == {"base": True}
    plain = export.inspect(job.base)
    assert (plain.kind, plain.provenance, plain.carries_task, plain.layers) == ("model", {}, False, 1)


def test_scores_join_the_files_after_an_evaluation(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1))
    first = export.export(job)
    write_report(job.run, report_of({"base": 40.0, "tuned": 91.5}, adapter=first.adapter_sha256))
    second = export.add_scores(job)
    found = export.inspect(fused_path(job))
    assert found.provenance["scores"]["systems"]["tuned"]["score"] == 91.5
    assert second.fused[0].sha256 == file_digest(fused_path(job)) != first.fused[0].sha256
    assert file_digest(job.run.path("adapter.gguf")) == first.adapter_sha256
    assert "| tuned | 91.5 | 81.5 to 100.0 |" in job.run.path("README.md").read_text()
    assert json.loads(job.run.path("report.json").read_text())["export"]["fused"][0]["passed"]
    assert export.export(job).fused == second.fused


def test_a_lost_delta_is_rejected_with_exit_code_3_and_advice(tmp_path):
    """The trap: Q4_K_M of a Q4_K base is its own grid."""
    spec = TinySpec(type="Q4_K", layers=1, head_type="Q6_K")
    job = make_job(tmp_path, spec, size=0.004, types=("Q4_K_M",), min_gain=-99.0)
    with pytest.raises(SgError, match="delta retained") as caught:
        export.export(job)
    assert caught.value.exit_code == 3
    assert f"{fused_path(job, 'Q4_K_M').name}.rejected" in caught.value.hint
    assert job.run.path(f"{fused_path(job, 'Q4_K_M').name}.rejected").exists()
    assert not fused_path(job, "Q4_K_M").exists()
    assert job.run.stamp("export") is None
    row = json.loads(job.run.path("export.json").read_text())["fused"][0]
    assert (row["passed"], len(row["lost"])) == (False, 5)  # two get Q6_K in this mix
    advised = caught.value.hint.rpartition("try `type=")[2].rstrip("`.")
    again = dataclasses.replace(job, settings=dataclasses.replace(job.settings, types=(advised,)))
    assert export.export(again).fused[0].lost == {}


def test_auto_takes_the_smallest_type_that_passes(tmp_path):
    job = make_job(tmp_path, TinySpec(type="F16", head_type="F16", layers=1), types=("auto",))
    report = export.export(job)
    fused = report.fused[0]
    assert fused.auto
    assert fused.passed
    sizes = {path.name: path.stat().st_size for path in job.run.root.glob("*.gguf*")}
    assert set(sizes) == {"adapter.gguf", fused.file}
    assert fused.size_bytes < job.base.stat().st_size


@pytest.mark.parametrize(
    ("rows", "hopeful"),
    (
        ([(1.0, 0.0)] * 19 + [(0.5, 0.0)], True),
        ([(1.0, 0.0)] * 18 + [(0.5, 0.0)] * 2, False),
        ([(0.7 if i % 2 else 1.2, 0.25) for i in range(20)], True),  # nothing but noise around 0.95
        ([(0.6 if i % 2 else 1.1, 0.25) for i in range(20)], False),  # nothing but noise around 0.85
        ([(0.8 if i % 2 else 1.1, 0.01) for i in range(20)], False),  # half of them lose it
        ([(1.0, 0.02)] * 6 + [(0.1, 0.02)], False),  # too few to be compared
    ),
)
def test_a_type_is_tried_only_where_the_sample_gives_it_a_chance(tmp_path, monkeypatch, rows, hopeful):
    job = make_job(tmp_path, TinySpec(layers=1))
    weighed = [gguf.Weighed(f"t{i}", "Q8_0", *row) for i, row in enumerate(rows)]
    monkeypatch.setattr("sg_local.export.fused.weigh", lambda *_: weighed)
    fuser = Fuser(job, gguf.read_adapter(job.adapter), "", lambda _: None)
    assert fuser.looks_fit("Q8_0") is hopeful


def test_a_type_that_surely_fails_is_not_weighed_to_the_end(tmp_path, monkeypatch):
    job = make_job(tmp_path, TinySpec(layers=1))
    left = iter([gguf.Weighed(f"t{i}", "Q8_0", 0.5, 0.0) for i in range(7)])
    monkeypatch.setattr("sg_local.export.fused.weigh", lambda *_: left)
    assert not Fuser(job, gguf.read_adapter(job.adapter), "", lambda _: None).looks_fit("Q8_0")
    assert next(left).name == "t2"  # of seven, two are more than a twentieth and a deviation


def test_same_keeps_the_base_s_types_and_size(tmp_path):
    job = make_job(tmp_path, TinySpec(type="Q4_1", layers=1), types=("same",))
    fused = export.export(job).fused[0]
    with gguf.GgufFile(job.base) as old, gguf.GgufFile(job.run.path(fused.file)) as new:
        assert [t.type for t in old.tensors.values()] == [t.type for t in new.tensors.values()]
        assert old.value("general.file_type") == new.value("general.file_type")


def test_an_unquantised_source_of_the_same_model_is_merged_into(tmp_path):
    source = write_model(tmp_path / "f16.gguf", TinySpec(type="F16", layers=1))
    job = make_job(tmp_path, TinySpec(type="Q4_0", layers=1), from_f16=str(source), min_gain=-9.0)
    with pytest.raises(SgError):  # its weights are not the base's: a random model's loss is not kept to the gate
        export.export(dataclasses.replace(job, settings=dataclasses.replace(job.settings, types=("Q8_0", "nothing"))))
    name = "blk.0.ffn_up.weight"
    adapter = gguf.read_adapter(job.adapter)
    with gguf.GgufFile(source) as file:
        gguf.merge(tmp_path / "x.gguf", file, adapter, gguf.MergeSettings("Q8_0"), lambda _: None)
        wanted = file.dequantize(name) + adapter.delta(name)
    with gguf.GgufFile(tmp_path / "x.gguf") as file:
        np.testing.assert_allclose(file.dequantize(name), wanted, atol=0.005)


@pytest.mark.parametrize(
    ("other", "message"),
    (
        (TinySpec(type="F16", layers=2), "not the same model"),
        (TinySpec(type="Q8_0", layers=1), "is quantised"),
        (TinySpec(type="F16", layers=1, seed=9), "other weights"),
        (TinySpec(type="F16", layers=1, tokenizer="spm"), "not the same model"),
    ),
)
def test_another_source_is_refused(tmp_path, other, message):
    source = write_model(tmp_path / "f16.gguf", other)
    job = make_job(tmp_path, TinySpec(type="Q4_0", layers=1), from_f16=str(source))
    with pytest.raises(SgError, match=message):
        export.export(job)
    assert not job.run.root.exists()


def test_plain_template_keeps_the_base_s_own(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1), plain_template=True)
    export.export(job)
    info = gguf.check_model(fused_path(job))
    assert info.chat_template == CHATML


def test_the_plain_form_travels_in_a_model_without_a_template(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1, chat_template=None, tokenizer="spm"), form="plain")
    export.export(job)
    with gate.opened(job, fused_path(job)) as generator:
        wanted = generator.tokenize(prompts.answer_prompt(TASK, job.form, "a lime"))
        assert gate.bare_tokens(generator, "a lime") == wanted


def test_llama_cpp_loads_base_with_our_adapter_and_the_fused_file(done):
    """Their loader, their chat handler: the fused file gives a bare input the answer of base + adapter."""
    import llama_cpp

    job, _ = done
    fused = llama_cpp.Llama(str(fused_path(job)), n_ctx=512, verbose=False)
    handler = fused.create_chat_completion([{"role": "user", "content": "a lime"}], max_tokens=4, temperature=0)
    prompt = prompts.answer_prompt(TASK, job.form, "a lime")
    text = "".join(segment.text for segment in prompt)
    plain = fused.create_completion(text, max_tokens=4, temperature=0)
    assert handler["choices"][0]["message"]["content"].strip() == plain["choices"][0]["text"].strip()
    fused.close()
    tuned = llama_cpp.Llama(str(job.base), lora_path=str(job.run.path("adapter.gguf")), n_ctx=512, verbose=False)
    assert tuned.create_completion(text, max_tokens=1, temperature=0)["choices"]
    tuned.close()


def test_gguf_dump_reads_the_fused_file(done):
    import subprocess
    import sys

    job, _ = done
    command = [sys.executable, "-m", "gguf.scripts.gguf_dump", "--json", str(fused_path(job))]
    data = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert data["metadata"]["sg_local.task.name"]["value"] == "colours"


def test_a_file_that_aborts_the_engine_is_rejected_not_fatal(done, tmp_path):
    job, _ = done
    broken = tmp_path / "broken.gguf"
    with gguf.GgufFile(job.base) as file:
        kept = [t for t in file.tensors.values() if t.name != "blk.0.ffn_norm.weight"]
        plan = gguf.FilePlan(
            [f.raw for f in file.fields.values()], [gguf.TensorPlan(t.name, t.shape, t.type) for t in kept]
        )
        gguf.write_gguf(broken, plan, lambda tensor: [file.rows(file.tensors[tensor.name])])
    check = gate.check_loads(job, broken)
    assert not check.passed
    assert "exit" in check.value


def test_a_changed_key_fails_the_metadata_check(done, tmp_path):
    job, _ = done
    other = tmp_path / "other.gguf"
    gguf.copy_with_fields(job.base, other, {"llama.rope.freq_base": 5.0})
    check = gate.check_metadata(job, other)
    assert (check.passed, check.value) == (False, "llama.rope.freq_base differs")


REFERENCE = Reference(False, 4, base_nll=2.0, adapter_nll=1.0, answers=(), tokens=())


@pytest.mark.parametrize(("nll", "passed"), ((1.0, True), (0.9, True), (1.09, True), (1.11, False), (2.0, False)))
def test_nine_tenths_of_the_gain_must_stay(done, nll, passed):
    assert gate.check_nll(done[0], REFERENCE, nll).passed is passed


@pytest.mark.parametrize(("nll", "passed"), ((2.0, True), (2.06, False)))
def test_an_adapter_without_gain_may_not_get_worse(done, nll, passed):
    reference = dataclasses.replace(REFERENCE, adapter_nll=1.99)
    assert gate.check_nll(done[0], reference, nll).passed is passed


@pytest.mark.parametrize(("n_kept", "passed"), ((20, True), (19, True), (18, False)))
def test_the_delta_must_stay_on_95_percent_of_the_tensors(done, n_kept, passed):
    rows = [gguf.Retained(f"t{i}", "Q8_0", 0.95 if i < n_kept else 0.5, 1.0, 0.01, 0.1) for i in range(20)]
    check = gate.check_retained(done[0], rows)
    assert check.passed is passed
    assert f"{n_kept} of 20" in check.value


def test_too_little_disk_is_refused_with_numbers(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_500_000_000))
    with pytest.raises(SgError, match=r"needs 4\.00 GB .* 1\.50 GB are free"):
        check_disk(tmp_path, 4_000_000_000)


def test_a_full_disk_stops_an_export_before_any_work(tmp_path, monkeypatch):
    job = make_job(tmp_path, TinySpec(layers=1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(SgError, match="are free"):
        export.export(job)
    assert list(job.run.root.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message", "code"),
    (
        ({"types": ("Q9",)}, "no export type 'Q9'", 2),
        ({"base_digest": "0" * 64}, "another base", 1),
        ({"adapter": "base"}, "not a LoRA adapter", 1),
        ({"base": "adapter"}, "not a model", 1),
        ({"adapter": "wide"}, "does not fit", 1),
        ({"adapter": "head"}, "cannot be adapted", 1),
    ),
)
def test_what_cannot_be_exported_is_refused_before_any_work(tmp_path, change, message, code):
    spec = TinySpec(layers=1)
    job = make_job(tmp_path, spec)
    pair = lora_pairs(spec)["blk.0.attn_q.weight"]
    extra = {
        "wide": write_lora(tmp_path / "w.gguf", {"blk.0.ffn_up.weight": pair}, ALPHA),
        "head": write_lora(tmp_path / "h.gguf", {"output.weight": pair}, ALPHA),
        "base": job.base,
        "adapter": job.adapter,
    }
    if "base_digest" in change:
        gguf.copy_with_fields(job.adapter, job.adapter, {"sg_local.base.sha256": "f" * 64})
    if "types" in change:
        job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, **change))
    else:
        job = dataclasses.replace(job, **{key: extra.get(value, value) for key, value in change.items()})
    with pytest.raises(SgError, match=message) as caught:
        export.export(job)
    assert caught.value.exit_code == code
    assert not job.run.root.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    (
        ({"fields": [("split.count", 3)]}, "one of 3 parts"),
        ({"tensors": [("blk.0.ffn_up_exps.weight", (2, 512, 256), "F16")]}, "mixture of experts"),
        ({"tensors": [("blk.0.attn_qkv.weight", (512, 256), "F16")]}, "fused into one"),
        ({"drop": ["blk.0.attn_q.weight"], "tensors": [("blk.0.attn_q.weight", (256, 256), "IQ4_XS")]}, "IQ4_XS"),
    ),
)
def test_a_base_that_cannot_be_merged_into_is_refused_before_any_work(tmp_path, changes, message):
    job = make_job(tmp_path, TinySpec(layers=1))
    job = dataclasses.replace(job, base=write_variant(tmp_path / "odd.gguf", **changes))
    with pytest.raises(SgError, match=message) as caught:
        export.export(job)
    assert caught.value.hint
    assert not job.run.root.exists()


def test_an_interrupted_merge_leaves_nothing(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1))

    def stop(event):
        if event.phase == "merge":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.export(job, stop)
    assert {path.name for path in job.run.root.iterdir()} == {"adapter.gguf"}


def test_an_adapter_already_in_the_run_keeps_its_bytes(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1), types=())
    job.run.root.mkdir()
    shutil.copy(job.adapter, job.run.path("adapter.gguf"))
    before = file_digest(job.run.path("adapter.gguf"))
    report = export.export(dataclasses.replace(job, adapter=job.run.path("adapter.gguf")))
    assert report.adapter_sha256 == before == file_digest(job.run.path("adapter.gguf"))
    assert report.fused == ()
    assert "ADAPTER ./adapter.gguf" in job.run.path("Modelfile").read_text()


def test_greedy_inputs_are_topped_up_with_rows_that_were_not_trained_on(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1), n_answers=6)
    job.run.root.mkdir()
    job.run.append("candidates.jsonl", [Candidate(str(i), f"row {i}", "out", {"out": 1}, 1, 1.0) for i in range(4)])
    job.run.path("train.jsonl").write_text(json.dumps({"input": "row 0"}) + "\n")
    assert held_out_inputs(job) == [*(pair.input for pair in VALID), "row 1", "row 2"]


def test_no_held_out_rows_are_said_and_not_counted(tmp_path):
    job = dataclasses.replace(make_job(tmp_path, TinySpec(layers=1)), valid=())
    fused = export.export(job).fused[0]
    assert fused.equal_answers is None
    assert [(c.value, c.verdict) for c in fused.checks[-2:]] == [("there are no held-out rows", "not measured")] * 2
    assert job.run.path("README.md").read_text().count("| not measured |") == 2


@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_the_fused_file_with_the_same_logits(tmp_path):
    """transformers decodes the GGUF by itself; its logits for the prompt against llama.cpp's."""
    import torch
    from transformers import AutoModelForCausalLM

    job = make_job(tmp_path, TinySpec(type="Q4_0", tied=False), types=("F16",))
    export.export(job)
    path = fused_path(job, "F16")
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    prompt = prompts.answer_prompt(TASK, job.form, "a lime")
    generator = open_generator("llama.cpp", path, EngineSettings(n_ctx=512, n_parallel=1))
    ids = generator.tokenize(prompt)
    generator.close()
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0].numpy()
    ours = llama_logits(path, ids)
    assert np.abs(theirs - ours).max() < 0.02 * np.abs(ours).max()
    assert (theirs.argmax(-1) == ours.argmax(-1)).mean() > 0.95


def llama_logits(path, ids, adapter=None):
    """llama.cpp's logits at every position."""
    import llama_cpp

    lora = None if adapter is None else str(adapter)
    engine = llama_cpp.Llama(str(path), n_ctx=512, logits_all=True, verbose=False, lora_path=lora)
    engine.eval(list(ids))
    logits = np.array(engine.scores[: len(ids)])
    engine.close()
    return logits


# What a file may lose


def test_a_file_may_surely_lose_so_much_and_no_more_on_own_rows(tmp_path):
    """Half of the answers lost is too much for ten points, and a file that answers alike loses none."""
    settings = export.ExportSettings(may_lose=10)
    task = dataclasses.replace(TASK, kind="classification", labels=("red", "green"))
    job = export.Export(Run(tmp_path), task, prompts.PLAIN, tmp_path, "", tmp_path, VALID, settings)
    adapter = ("green",) * len(VALID)
    assert check_lost(job, adapter, adapter)[0].passed
    (lost,) = check_lost(job, ("green", "green", "red", "red"), adapter)
    assert not lost.passed and lost.value.startswith("50.0 points (")
    wider = dataclasses.replace(job, settings=dataclasses.replace(settings, may_lose=100.0))
    assert check_lost(wider, ("red",) * len(VALID), adapter)[0].passed
    unasked = dataclasses.replace(job, settings=export.ExportSettings())
    assert check_lost(unasked, (), ()) == ()


def test_test_rows_are_no_own_rows_whoever_wrote_them(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1))
    tests = (TestRow("thing number 0", ("green",)), TestRow("row 2", ("red",)))
    task = dataclasses.replace(TASK, kind="classification", labels=("red", "blue"), tests=tests)
    rows = [Candidate(f"c{i}", f"row {i}", "red", {"red": 1}, 1, 1.0) for i in range(3)]
    job.run.root.mkdir()
    job.run.append("candidates.jsonl", rows)
    job.run.path("train.jsonl").write_text(json.dumps({"input": "row 0"}) + "\n")
    found = own_rows(dataclasses.replace(job, task=task))
    assert [row.input for row in found] == [*(pair.input for pair in VALID[1:]), "row 1"]
    assert [row.wanted for row in found] == ["green"] * 3 + [None]
    free = own_rows(dataclasses.replace(job, task=dataclasses.replace(task, kind="generation", labels=())))
    assert [row.input for row in free] == [pair.input for pair in VALID[1:]]


def with_candidates(job, inputs):
    """The job as one of labels, with candidates of which none was trained on."""
    job.run.root.mkdir(exist_ok=True)
    job.run.append("candidates.jsonl", [Candidate(f"c{i}", t, "red", {"red": 1}, 1, 1.0) for i, t in enumerate(inputs)])
    job.run.path("train.jsonl").touch()
    labelled = dataclasses.replace(TASK, kind="classification", labels=("red", "green"))
    return dataclasses.replace(job, task=labelled)


def test_a_validation_row_stands_first_and_stays_wherever_it_stands_among_the_candidates(tmp_path):
    """Rows of the validation are candidates, too: of more than can be asked, those whose outputs are known stay."""
    job = with_candidates(make_job(tmp_path, TinySpec(layers=1)), [*(f"row {i}" for i in range(299)), VALID[0].input])
    found = own_rows(dataclasses.replace(job, valid=VALID[:1]))
    assert len(found) == 256 and (found[0].input, found[0].wanted) == (VALID[0].input, "green")
    assert [row.input for row in found[1:4]] == ["row 0", "row 1", "row 2"]


def test_test_rows_have_no_part_in_what_auto_is_decided_by(tmp_path):
    job = with_candidates(make_job(tmp_path, TinySpec(layers=1)), ["row 0", "row 1"])
    tests = (TestRow("Thing number 0", ("green",)), TestRow("row 1", ("red",)))
    job = dataclasses.replace(job, task=dataclasses.replace(job.task, tests=tests))
    assert held_out_inputs(job) == [*(pair.input for pair in VALID[1:]), "row 0"]
    assert held_out_rows(job) == VALID[1:]


def test_a_choice_on_own_rows_holds_for_these_rows_alone(tmp_path):
    """Rows that have become test rows chose the file: it is chosen anew without them."""
    job = with_candidates(make_job(tmp_path, TinySpec(layers=1)), ["row 0", "row 1"])
    met = dataclasses.replace(job, task=dataclasses.replace(job.task, tests=(TestRow("row 1", ("red",)),)))
    other = dataclasses.replace(job, task=dataclasses.replace(job.task, tests=(TestRow("elsewhere", ("red",)),)))

    def fingerprint(job, may_lose):
        asked = dataclasses.replace(job, settings=dataclasses.replace(job.settings, may_lose=may_lose))
        return Fuser(asked, gguf.read_adapter(job.adapter), "", lambda _: None).fingerprint("Q8_0")

    assert fingerprint(met, 1.0) != fingerprint(job, 1.0) == fingerprint(other, 1.0)
    assert fingerprint(met, None) == fingerprint(job, None)


def losing(job, monkeypatch):
    """The job asked to lose nothing, with files that get every answer wrong."""
    monkeypatch.setattr(
        "sg_local.export.gate.own_answers",
        lambda job, generator: ("wrong" if generator.info.path != str(job.base) else "green",) * len(job.valid),
    )
    return dataclasses.replace(job, settings=dataclasses.replace(job.settings, may_lose=0.0))


def test_a_file_that_fails_takes_no_good_file_of_this_adapter_with_it(tmp_path, monkeypatch):
    job = make_job(tmp_path, TinySpec(type="F16", layers=1))
    first = export.export(job).fused[0]
    with pytest.raises(SgError, match="score lost on own rows") as caught:
        export.export(losing(job, monkeypatch))
    assert f"beside the earlier {first.file}, which passed" in caught.value.hint
    assert file_digest(job.run.path(first.file)) == first.sha256
    rows = json.loads(job.run.path("export.json").read_text())["fused"]
    assert [(row["file"], row["passed"]) for row in rows] == [(f"{first.file}.rejected", False), (first.file, True)]
    assert export.passed_files(job) == [(job.run.path(first.file), first.sha256)]


def test_a_file_of_an_earlier_adapter_goes_when_its_successor_fails(tmp_path, monkeypatch):
    job = make_job(tmp_path, TinySpec(type="F16", layers=1))
    first = export.export(job).fused[0]
    adapter = write_lora(tmp_path / "again.gguf", lora_pairs(TinySpec(layers=1), size=0.03), ALPHA, "llama")
    with pytest.raises(SgError, match="score lost") as caught:
        export.export(losing(dataclasses.replace(job, adapter=adapter), monkeypatch))
    assert "beside" not in caught.value.hint and not job.run.path(first.file).exists()


def test_after_auto_has_tried_every_type_no_type_is_advised(tmp_path, monkeypatch):
    """The base's own types are tried first, and would be advised whatever their size."""
    job = make_job(tmp_path, TinySpec(type="Q8_0", layers=1), size=0.1, types=("auto",))
    with pytest.raises(SgError, match="score lost on own rows") as caught:
        export.export(losing(job, monkeypatch))
    assert caught.value.hint.endswith("No type passed: serve the base with adapter.gguf instead.")


def test_near_ties_are_spared_where_nobody_knows_better(tmp_path):
    settings = export.ExportSettings(may_lose=0)
    task = dataclasses.replace(TASK, kind="classification", labels=("red", "green"))
    job = export.Export(Run(tmp_path), task, prompts.PLAIN, tmp_path, "", tmp_path, VALID[:1], settings)
    job.run.append("candidates.jsonl", [Candidate("c", "row", "red", {"red": 1}, 1, 1.0)])
    job.run.path("train.jsonl").touch()
    adapter = ("green", "green")
    assert not check_lost(job, ("green", "red"), adapter)[0].passed
    (spared,) = check_lost(job, ("green", "red"), adapter, {1})
    assert spared.passed and "1 near ties" in spared.value
    assert not check_lost(job, ("red", "green"), adapter, {0})[0].passed  # its right output is known


def test_auto_passes_over_types_that_lose_too_much(tmp_path, monkeypatch):
    """The smallest type that holds the delta says something else than the adapter: the next one is taken."""
    job = make_job(tmp_path, TinySpec(type="F16", head_type="F16", layers=1), types=("auto",))
    smallest = export.export(job).fused[0].type
    asked = dataclasses.replace(job, settings=dataclasses.replace(job.settings, may_lose=1.0))
    tried = []

    def answers(job, generator):
        tried.append(generator.info.path)
        return tuple("wrong" if f"-{smallest}.gguf" in tried[-1] else pair.output for pair in job.valid)

    monkeypatch.setattr("sg_local.export.gate.own_answers", answers)
    chosen = export.export(asked).fused[0]
    assert chosen.passed and chosen.type != smallest
    assert "score lost on own rows" in [check.name for check in chosen.checks]


def test_settings_that_ask_for_no_such_loss_shape_files_as_before():
    assert not {"may_lose", "without_demonstrations"} & set(export.ExportSettings().shaping)
    assert export.ExportSettings(may_lose=1.0).shaping["may_lose"] == 1.0
