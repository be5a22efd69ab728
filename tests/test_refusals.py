"""Models that cannot be trained: one sentence, the same when a run is opened, in `models show` and from the doctor."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from tiny_models import write_model

import sg_local
from sg_local import doctor, gguf
from sg_local.cli.app import app
from sg_local.doctor.engines import check_model
from sg_local.home import ModelFolders
from sg_local.records import SgError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("tiny") / "m.gguf")


EXPERTS = {"llama.expert_count": 8, "llama.expert_used_count": 2}


@pytest.mark.parametrize(
    ("architecture", "fields", "reason"),
    [
        ("llama4", {}, "its architecture is llama4, a mixture of experts"),
        ("gpt-oss", {}, "its architecture is gpt-oss, a mixture of experts"),
        ("qwen3moe", {}, "its architecture is qwen3moe, a mixture of experts"),
        ("phimoe", {}, "its architecture is phimoe, a mixture of experts"),
        ("granitemoe", {}, "its architecture is granitemoe, a mixture of experts"),
        ("mamba", {}, "its architecture is mamba, whose layers carry a state"),
        ("jamba", {}, "its architecture is jamba, whose layers carry a state"),
        ("lfm2", {}, "its architecture is lfm2, whose layers carry a state"),
        ("granitehybrid", {}, "its architecture is granitehybrid, whose layers carry a state"),
        ("qwen3next", {}, "its architecture is qwen3next, whose layers carry a state"),
        ("falcon-h1", {}, "its architecture is falcon-h1, whose layers carry a state"),
        ("bert", {}, "its architecture is bert, a model of embeddings"),
        ("gemma-embedding", {}, "its architecture is gemma-embedding, a model of embeddings"),
        ("gemma3n", {}, "its architecture is gemma3n, whose layers have embeddings of their own"),
        ("falcon", {}, "its architecture is falcon."),
        ("llama", EXPERTS, r"it is a mixture of experts \(llama.expert_count is 8\)"),
        ("llama", {"split.count": 2}, "one of 2 parts of a split model"),
        ("llama", {"llama.rope.scaling.type": "longrope"}, "its rotary scaling is longrope"),
        ("llama", {"llama.rope.scaling.type": "yarn"}, "its rotary scaling is yarn"),
        ("llama", {"llama.rope.dimension_count": 32}, "it rotates 32 of each head's 64 numbers"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence_wherever_it_is_told(
    tmp_path, tiny, own_folder, architecture, fields, reason
):
    path = tmp_path / "other.gguf"
    gguf.copy_with_fields(tiny, path, {"general.architecture": architecture, **fields})
    with pytest.raises(SgError, match=reason) as caught:
        sg_local.open_job("support_routing", model=str(path), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    sentence = caught.value.message.removeprefix(f"{path} cannot be trained: ")
    found = check_model(str(path), ModelFolders.of(own_folder))
    assert found.status == "fail" and found.why.removeprefix("it can be used here, but not trained: ") == sentence
    shown = CliRunner().invoke(app, ["models", "show", str(path), "--json"])
    told = json.loads(shown.stdout)["file"]["cannot_train"] if shown.exit_code == 0 else " ".join(shown.stderr.split())
    assert sentence in told


def test_the_doctor_looks_at_the_model_that_runs_would_take(tmp_path, tiny, own_folder, monkeypatch):
    monkeypatch.setattr(doctor.engines, "probe_all", lambda output: {})
    asked = ["doctor", "--json"]
    findings = json.loads(CliRunner().invoke(app, asked, env={"SG_LOCAL_MODEL": str(tiny)}).stdout)
    assert {"name": "model", "status": "ok", "value": "m"}.items() <= findings[-2].items()
    gguf.copy_with_fields(tiny, tmp_path / "bert.gguf", {"general.architecture": "bert"})
    refused = CliRunner().invoke(app, [*asked, "--model", str(tmp_path / "bert.gguf")])
    assert refused.exit_code == 1 and "not trained: its architecture is bert" in refused.stdout
    missing = CliRunner().invoke(app, [*asked, "--model", "no-such-model"])
    assert "There is no model named" in missing.stdout and "`sg-local models ls`" in missing.stdout
