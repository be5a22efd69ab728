"""The whole export on a tiny model of every architecture: K-quants, folders, papers, and how other libraries read them.

Each has its family's manner: its way of cutting texts, a chat template of its kind. Rows of the table come in by
themselves; only what a family has of its own is said here.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ollama_reader import prompt_of
from test_export import TASK, fused_path, llama_logits, make_job
from test_export_ollama import PHI
from test_prompts_templates import CUE, GEMMA, LAST, MISTRAL
from tiny_architectures import spec_of
from tiny_models import TinySpec, spm_pieces

from sg_local import export, gguf, prompts
from sg_local.export import folder_gate, gate, reading
from sg_local.export.huggingface import FolderPlan, write_folder
from sg_local.gguf.architectures import ARCHITECTURES
from sg_local.records import from_dict
from sg_local.run import file_digest

TEMPLATES = {"gemma2": GEMMA, "gemma3": GEMMA, "qwen3": LAST + CUE, "smollm3": LAST + CUE, "phi3": PHI}
TEMPLATES |= {"mistral3": MISTRAL}
PRE = {"llama": "llama-bpe", "granite": "refact", "smollm3": "smaug-bpe", "olmo2": "dbrx", "phi3": "gpt-4o"}
PRE |= {"qwen2": "qwen2", "qwen3": "qwen2", "mistral3": "tekken"}


def own_spec(architecture: str) -> TinySpec:
    """The architecture's tiny model, as its family speaks, and never sure: else chance would decide on its loss."""
    spec = spec_of(architecture, chat_template=TEMPLATES.get(architecture, ""), embedding_std=0.02)
    if architecture.startswith("gemma"):
        turn = (("<start_of_turn>", 0.0, 3), ("<end_of_turn>", 0.0, 3))
        spec = dataclasses.replace(spec, tokenizer="spm", pieces=(*spm_pieces()[: -len(turn)], *turn))
    if architecture == "gemma2":  # mlx-lm's has no window: one that holds all prompts here
        rest = tuple(pair for pair in spec.metadata if pair[0] != "attention.sliding_window")
        spec = dataclasses.replace(spec, metadata=(("attention.sliding_window", 512), *rest))
    return spec


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def done(request, tmp_path_factory):
    """The job, its report, token ids of the task's prompt, and llama.cpp's logits for them on base + adapter."""
    folder = tmp_path_factory.mktemp(request.param)
    places = {"hf": str(folder / "out" / "hf"), "mlx": str(folder / "out" / "mlx")}
    job = make_job(folder, own_spec(request.param), size=0.3, types=("Q4_K_M",), n_rows=2, n_answers=2, **places)
    job = with_manner(job, request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_gate, "_ask_process", asked_here)
        report = export.export(job)
    with gate.opened(job, job.base) as generator:
        ids = list(generator.tokenize(prompts.answer_prompt(TASK, job.form, "a lime")))
    return job, report, ids, llama_logits(job.base, ids, job.run.path("adapter.gguf"))


def with_manner(job: export.Export, architecture: str) -> export.Export:
    """The job on its base with its family's way of cutting texts, in the form that the engine finds."""
    if architecture in PRE:
        gguf.copy_with_fields(job.base, job.base, {"tokenizer.ggml.pre": PRE[architecture]})
    with gate.opened(job, job.base) as generator:
        form = prompts.form_of(generator.info, "chat")
    return dataclasses.replace(job, base_digest=file_digest(job.base), form=form)


def asked_here(command: list[str], request: str) -> tuple[list[dict[str, object]], str]:
    """A folder read in this process: that each gets one of its own is told in test_export_folder, and takes long."""
    return list(reading.findings(from_dict(reading.Request, json.loads(request)))), ""


def assert_close(theirs: np.ndarray, ours: np.ndarray) -> None:
    """As near as float16 weights come."""
    assert np.abs(theirs - ours).max() < 0.01 * np.abs(ours).max()


def test_every_product_passes_its_gate(done):
    job, report, _, _ = done
    assert [check for fused in report.fused for check in fused.checks if check.verdict != "yes"] == []
    assert [check for one in report.folders for check in one.checks if check.verdict != "yes"] == []
    assert [(fused.file, fused.passed) for fused in report.fused] == [(fused_path(job, "Q4_K_M").name, True)]
    assert report.fused[0].types["Q4_K"] > report.fused[0].n_tensors // 2
    assert [one.kind for one in report.folders] == ["mlx", "hf"]
    assert job.run.stamp("export") is not None


def test_the_papers_tell_the_task(done):
    job, report, ids, _ = done
    card = job.run.path("README.md").read_text()
    assert TASK.instruction in card and report.fused[0].sha256 in card and "a fire engine" in card
    text = prompt_of(job.run.path("Modelfile").read_text(), "a lime")
    with gate.opened(job, fused_path(job, "Q4_K_M")) as generator:
        assert list(generator.tokenize(prompts.render(prompts.Form("chat", repr_of(text)), []))) == ids


def repr_of(text: str) -> str:
    """A template that writes a text, all of it trusted, as Ollama reads a prompt."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"


def test_generation_stops_where_an_answer_ends(done):
    """Gemma's answers end with their turn, not with the end of sequence."""
    job, _, _, _ = done
    told = json.loads((Path(job.settings.hf) / "generation_config.json").read_text())
    with gguf.GgufFile(job.base) as file:
        eos, tokens = file.value("tokenizer.ggml.eos_token_id"), file.value("tokenizer.ggml.tokens")
    assert job.form.end == ("<end_of_turn>" if "<end_of_turn>" in tokens else "")
    assert told["eos_token_id"] == ([tokens.index(job.form.end), eos] if job.form.end else eos)


@pytest.mark.filterwarnings("ignore")
def test_the_folder_s_tokenizer_and_template_make_the_prompt_of_training(done):
    from transformers import AutoTokenizer

    job, _, ids, _ = done
    tokenizer = AutoTokenizer.from_pretrained(job.settings.hf)
    found = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a lime"}], add_generation_prompt=True, return_dict=False
    )
    assert list(found) == ids


@pytest.mark.filterwarnings("ignore")
def test_transformers_and_peft_load_what_was_trained(done, tmp_path, monkeypatch):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    job, _, ids, ours = done
    write_folder(tmp_path, FolderPlan(job.base, gguf.LoraAdapter("llama", 1.0, {}, {}), None), lambda _: None)
    base = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(job.settings.hf, dtype=torch.float32)
    with torch.no_grad():
        alone = base(torch.tensor([ids])).logits[0].numpy()
        tuned = PeftModel.from_pretrained(base, str(Path(job.settings.hf) / "adapter"))
        for model in (merged, tuned):
            assert_close(model(torch.tensor([ids])).logits[0].numpy(), ours)
    assert np.abs(alone - ours).max() > 0.05 * np.abs(ours).max()


@pytest.mark.filterwarnings("ignore")
def test_mlx_lm_loads_what_was_trained(done):
    mx, mlx_lm = pytest.importorskip("mlx.core"), pytest.importorskip("mlx_lm")
    job, _, ids, ours = done
    model, tokenizer = mlx_lm.load(job.settings.mlx)
    assert_close(np.array(model(mx.array([ids]))[0].astype(mx.float32)), ours)
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "a lime"}], add_generation_prompt=True)
    assert list(asked) == ids
