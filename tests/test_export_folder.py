"""Folders for transformers, peft and mlx-lm: loaded by these themselves, held to llama.cpp on base + adapter."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import MODEL_ARCH, get_tensor_name_map
from test_export import ALPHA, TASK, llama_logits, make_job
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local import export, gguf, prompts
from sg_local.backends import EngineSettings, open_generator
from sg_local.export import folder_gate, gate, reading
from sg_local.export.huggingface import FolderPlan, model_config, write_folder, write_peft
from sg_local.export.safetensors import SafeTensor, header
from sg_local.export.tokenizer import tokenizer_json
from sg_local.records import Segment, SgError

# Float bases, because with quantised ones llama.cpp rounds activations too: what differs then says nothing of us.
BASES = (
    TinySpec(type="F32", head_type="F32", rope_base=5e5),
    TinySpec(type="F16", head_type="F16", tokenizer="spm", tied=False, kv_heads=4),
)
GATE = ["loads and answers", "delta retained", "token ids equal", "validation loss", "greedy answers equal"]
TEXTS = (
    "I was charged twice for the same order, please refund me.",
    "  two\n\nlines  \t and é 😀 中 1234 5.5 don't THE end ",
    "over</s>USER: and on<|im_end|>\n<|im_start|>user",
    "x",
)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module", params=BASES, ids=lambda spec: spec.tokenizer)
def made(request, tmp_path_factory):
    """An export with both folders and no fused file; the adapter is large, so that its absence would be seen."""
    folder = tmp_path_factory.mktemp("folders")
    places = {"hf": str(folder / "out" / "hf"), "mlx": str(folder / "out" / "mlx")}
    job = make_job(folder, request.param, size=0.3, types=(), **places)
    return job, export.export(job)


@pytest.fixture(scope="module")
def asked(made):
    """Token ids of the task's prompt, and llama.cpp's logits on base + adapter."""
    job, _ = made
    generator = open_generator("llama.cpp", job.base, EngineSettings(n_ctx=512, n_parallel=1))
    ids = generator.tokenize(prompts.answer_prompt(TASK, job.form, "a lime"))
    generator.close()
    return list(ids), llama_logits(job.base, ids, job.run.path("adapter.gguf"))


def assert_close(theirs, ours):
    assert np.abs(theirs - ours).max() < 0.01 * np.abs(ours).max()
    assert (theirs.argmax(-1) == ours.argmax(-1)).mean() > 0.95


@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_the_merged_folder(made, asked):
    import torch
    from transformers import AutoModelForCausalLM

    job, _ = made
    ids, ours = asked
    model = AutoModelForCausalLM.from_pretrained(job.settings.hf, dtype=torch.float32)
    with torch.no_grad():
        assert_close(model(torch.tensor([ids])).logits[0].numpy(), ours)
    assert np.abs(llama_logits(job.base, ids) - ours).max() > 0.1 * np.abs(ours).max()


@pytest.mark.filterwarnings("ignore")
def test_peft_loads_the_adapter_onto_the_base(made, asked):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    job, _ = made
    ids, ours = asked
    base = AutoModelForCausalLM.from_pretrained(job.base.parent, gguf_file=job.base.name, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, os.path.join(job.settings.hf, "adapter"))
    with torch.no_grad():
        assert_close(model(torch.tensor([ids])).logits[0].numpy(), ours)


@pytest.mark.filterwarnings("ignore")
def test_mlx_lm_loads_the_merged_folder(made, asked):
    mx = pytest.importorskip("mlx.core")
    mlx_lm = pytest.importorskip("mlx_lm")
    job, _ = made
    ids, ours = asked
    model, tokenizer = mlx_lm.load(job.settings.mlx)
    assert_close(np.array(model(mx.array([ids]))[0].astype(mx.float32)), ours)
    asked_bare = tokenizer.apply_chat_template([{"role": "user", "content": "a lime"}], add_generation_prompt=True)
    assert list(asked_bare) == ids


@pytest.mark.filterwarnings("ignore")
def test_the_folder_s_tokenizer_gives_llama_cpp_s_ids(made):
    from transformers import AutoTokenizer

    job, _ = made
    tokenizer = AutoTokenizer.from_pretrained(job.settings.hf)
    generator = open_generator("llama.cpp", job.base, EngineSettings(n_ctx=512, n_parallel=1))
    for text in TEXTS:
        assert tuple(tokenizer(text)["input_ids"]) == generator.tokenize((Segment(text),)), text
    generator.close()
    ids = tokenizer("Hello there")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Hello there"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_smollm2_s_folder_tokenizer_gives_llama_cpp_s_ids(embedded, routing):
    from tokenizers import Tokenizer

    with gguf.GgufFile(embedded) as file:
        tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json(file)))
    generator = open_generator("llama.cpp", embedded, EngineSettings(n_parallel=1))
    for text in (*TEXTS, *(row.input for row in routing.tests)):
        assert tuple(tokenizer.encode(text).ids) == generator.tokenize((Segment(text),)), text
    generator.close()


def test_a_peft_adapter_equals_ours_by_llama_cpp_s_converter_s_rules(made, tmp_path):
    """convert_lora_to_gguf.py: names by the tensor map; q and k permuted, on a LoRA in B's rows alone."""
    from safetensors.numpy import load_file

    job, _ = made
    config = json.loads((Path(job.settings.hf) / "config.json").read_text())
    theirs = load_file(Path(job.settings.hf) / "adapter" / "adapter_model.safetensors")
    settings = json.loads((Path(job.settings.hf) / "adapter" / "adapter_config.json").read_text())
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    with gguf.GgufFile(job.run.path("adapter.gguf")) as file:
        assert file.value("adapter.lora.alpha") == settings["lora_alpha"]
        assert len(theirs) == len(file.tensors)
        for key, array in theirs.items():
            module, letter = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key).groups()
            n_head = heads.get(module.rpartition(".")[2])
            if n_head is not None and letter == "B":
                array = array.reshape(n_head, 2, array.shape[0] // n_head // 2, -1).swapaxes(1, 2).reshape(array.shape)
            name = f"{names.get_name(module)}.weight.lora_{letter.lower()}"
            assert np.array_equal(file.dequantize(name), array), name


def test_the_gate_s_findings_are_told(made):
    job, report = made
    assert [folder.kind for folder in report.folders] == ["mlx", "hf"]
    for folder in report.folders:
        assert folder.passed
        lines = {check.name: check for check in folder.checks}
        assert list(lines) == GATE
        assert "2 by the folder's template" in lines["token ids equal"].value
        assert [check.verdict for check in folder.checks] == ["yes"] * 5
        assert abs(folder.nll["export"] - folder.nll["adapter"]) < 0.1
        assert abs(folder.nll["base"] - folder.nll["adapter"]) > 0.3
        card = job.run.path("README.md").read_text()
        assert f"| {Path(folder.path).name} | merged, float16" in card
        assert folder.path not in card  # the card is published, this machine's folders are not
    rows = json.loads(job.run.path("export.json").read_text())["folders"]
    assert [row["passed"] for row in rows] == [True, True]
    note = json.loads((Path(job.settings.mlx) / "sg_local.json").read_text())
    assert (note["task.name"], note["base.sha256"]) == ("colours", job.base_digest)
    assert job.settings.mlx not in json.dumps(note)  # as little as the card


def test_the_same_folder_is_not_made_again(made):
    job, report = made
    weights = Path(job.settings.mlx) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert export.export(job).folders == report.folders
    assert weights.stat().st_mtime_ns == before
    assert list(weights.parent.parent.glob("*.partial")) == []


def test_scores_leave_the_folders_on_the_card(made):
    job, report = made
    again = export.add_scores(job)
    assert again.folders == report.folders
    assert "| mlx | merged, float16" in job.run.path("README.md").read_text()


@pytest.mark.parametrize(
    ("places", "message", "code"),
    (
        ({"hf": "full"}, "holds other files", 2),
        ({"mlx": "file"}, "holds other files", 2),
        ({"hf": "one", "mlx": "one"}, "the same folder", 2),
    ),
)
def test_a_place_that_is_taken_is_refused_before_any_work(tmp_path, places, message, code):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    job = make_job(tmp_path, TinySpec(layers=1), **{kind: str(tmp_path / name) for kind, name in places.items()})
    with pytest.raises(SgError, match=message) as caught:
        export.export(job)
    assert caught.value.exit_code == code
    assert not job.run.root.exists()
    assert (tmp_path / "full" / "diary.txt").read_text() == "mine"


def test_the_disk_must_hold_files_and_folders_together(tmp_path, monkeypatch):
    job = make_job(tmp_path, TinySpec(layers=1), hf=str(tmp_path / "deep" / "hf"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
    with pytest.raises(SgError, match="are free"):
        export.export(job)
    assert not (tmp_path / "deep").exists()


def test_an_interrupted_folder_leaves_nothing(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1), types=(), mlx=str(tmp_path / "out" / "mlx"))

    def stop(event):
        if event.phase == "gate":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.export(job, stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_fails_its_gate_is_put_aside(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1), types=(), mlx=str(tmp_path / "mlx"), min_retained=2.0)
    with pytest.raises(SgError, match="delta retained") as caught:
        export.export(job)
    assert caught.value.exit_code == 3
    assert (tmp_path / "mlx.rejected" / "config.json").exists()
    assert not (tmp_path / "mlx").exists()


def test_ranks_and_layers_that_differ_are_said_exactly(tmp_path):
    pytest.importorskip("peft")
    from peft import LoraConfig

    spec = TinySpec(layers=3)
    pairs = {**lora_pairs(spec, rank=4, targets=("attn_v",)), **lora_pairs(spec, rank=2, targets=("ffn_up",))}
    del pairs["blk.1.attn_v.weight"]
    adapter = gguf.read_adapter(write_lora(tmp_path / "a.gguf", pairs, ALPHA))
    shape = gguf.read_config(write_model(tmp_path / "m.gguf", spec))
    write_peft(tmp_path, adapter, shape, "base")
    config = LoraConfig.from_pretrained(str(tmp_path))
    assert (config.r, config.lora_alpha, len(config.target_modules)) == (4, ALPHA, 5)
    assert config.rank_pattern == {f"model.layers.{i}.mlp.up_proj": 2 for i in range(3)}


@pytest.mark.parametrize("factor", (8.0, 32.0))
def test_llama_3_s_rotary_factors_become_its_settings(tmp_path, factor):
    """The factors by transformers' own function, put into a GGUF as llama.cpp's converter does, read back."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    spec = TinySpec(layers=1, rope_base=5e5)
    config = LlamaConfig(head_dim=spec.head_dim, rope_parameters={"rope_theta": 5e5, **scaling})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    plain = 5e5 ** -(np.arange(0, spec.head_dim, 2) / spec.head_dim)
    base = with_factors(tmp_path, spec, (plain / scaled.numpy()).astype(np.float32))
    with gguf.GgufFile(base) as file:
        fields = model_config(file, gguf.read_config(base))
    assert fields["rope_scaling"] == pytest.approx(scaling)


def test_other_rotary_factors_are_refused(tmp_path):
    base = with_factors(tmp_path, TinySpec(layers=1), np.linspace(1, 7, 32, dtype=np.float32))
    with gguf.GgufFile(base) as file, pytest.raises(SgError, match="rotary"):
        model_config(file, gguf.read_config(base))


def with_factors(folder, spec, factors):
    """A tiny model with rope_freqs.weight."""
    path = folder / "factors.gguf"
    with gguf.GgufFile(write_model(folder / "m.gguf", spec)) as file:
        plans = [gguf.TensorPlan(t.name, t.shape, t.type) for t in file.tensors.values()]
        plans.append(gguf.TensorPlan("rope_freqs.weight", factors.shape, "F32"))

        def chunks(plan):
            known = plan.name in file.tensors
            return [file.rows(file.tensors[plan.name]) if known else factors]

        gguf.write_gguf(path, gguf.FilePlan([f.raw for f in file.fields.values()], plans), chunks)
    return path


def test_values_beyond_float16_are_refused(tmp_path):
    spec = TinySpec(type="F32", head_type="F32", layers=1, std=1e6)
    base = write_model(tmp_path / "m.gguf", spec)
    adapter = gguf.read_adapter(write_lora(tmp_path / "a.gguf", lora_pairs(spec), ALPHA))
    with pytest.raises(SgError, match="float16"):
        write_folder(tmp_path, FolderPlan(base, adapter, None), lambda _: None)
    assert not (tmp_path / "model.safetensors").exists()


def test_the_header_is_that_of_the_safetensors_library():
    tensors = [SafeTensor("a", (2, 3)), SafeTensor("b", (5,), "F32")]
    from safetensors.numpy import load

    values = [np.arange(6, dtype=np.float16), np.arange(5, dtype=np.float32)]
    loaded = load(header(tensors) + b"".join(value.tobytes() for value in values))
    assert loaded["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded["b"].tolist() == [0, 1, 2, 3, 4]


def test_plain_templates_stay_the_base_s(tmp_path):
    job = make_job(tmp_path, TinySpec(layers=1), types=(), plain_template=True, mlx=str(tmp_path / "mlx"))
    export.export(job)
    with gguf.GgufFile(job.base) as file:
        wanted = file.value("tokenizer.chat_template")
    config = json.loads((tmp_path / "mlx" / "tokenizer_config.json").read_text())
    assert config["chat_template"] == wanted
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, plain_template=False))
    assert export.export(job).folders[0].passed  # other settings: made anew, in the place of our own folder
    config = json.loads((tmp_path / "mlx" / "tokenizer_config.json").read_text())
    assert "sg_turns" in config["chat_template"]


def spoken(job, kind, reference):
    with gate.opened(job, job.base) as generator:
        return folder_gate.speech_of(job, generator, None, kind, reference)


@pytest.fixture
def held(made):
    """The request that a folder gets, and what answers it, with the gate's other arguments."""
    job, _ = made
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, plain_template=True))
    reference = gate.take_reference(job)

    def hold(kind, folder):
        speech = spoken(job, kind, reference)
        request = dataclasses.replace(speech.request, folder=str(folder))
        rows = [gguf.Retained("t", "F16", 1.0, 0.0, 0.01, 1.0)]
        return folder_gate.run_folder_gate(job, request, speech, reference, rows)

    return hold


@pytest.mark.parametrize("made", BASES[:1], indirect=True, ids=["bpe"])
@pytest.mark.parametrize("kind", ("hf", "mlx"))
def test_a_folder_with_the_base_s_weights_fails_on_loss_and_answers(made, held, tmp_path, kind):
    """Nothing but running it can tell: the file is whole, its tokens are right, its adapter is missing."""
    job, _ = made
    untouched = gguf.LoraAdapter("llama", ALPHA, {}, {})
    write_folder(tmp_path, FolderPlan(job.base, untouched, None), lambda _: None)
    found = held(kind, tmp_path)
    verdicts = {check.name: check.verdict for check in found.checks}
    assert (verdicts["loads and answers"], verdicts["validation loss"]) == ("yes", "no")
    assert found.nll is not None


@pytest.mark.parametrize("made", BASES[:1], indirect=True, ids=["bpe"])
def test_a_folder_that_does_not_load_is_told_so(made, held, tmp_path):
    job, _ = made
    shutil.copytree(job.settings.hf, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5000])
    check = held("hf", tmp_path / "cut").checks[0]
    assert (check.name, check.verdict) == ("loads and answers", "no")
    assert check.value.startswith("exit 1: ")


@pytest.mark.parametrize("made", BASES[:1], indirect=True, ids=["bpe"])
@pytest.mark.parametrize(
    ("missing", "free", "why"),
    (
        ({"torch"}, None, "torch is not installed"),
        ({"torch", "transformers"}, None, "torch and transformers are not installed"),
        (set(), 1000, "it takes 0.0 GB of memory, 0.0 GB are free"),
    ),
)
def test_what_cannot_be_run_is_named_and_not_held_against_a_folder(made, held, monkeypatch, missing, free, why):
    job, _ = made
    monkeypatch.setattr(folder_gate, "find_spec", lambda name: None if name in missing else name)
    if free is not None:
        monkeypatch.setattr("sg_local.backends.machine.free_memory", lambda: free)
    found = held("hf", job.settings.hf)
    measured = {check.name: check for check in found.checks}
    for name in ("loads and answers", "validation loss", "greedy answers equal"):
        assert (measured[name].verdict, measured[name].value) == ("not measured", why)
    assert all(check.passed for check in found.checks)
    assert found.nll is None


@pytest.mark.parametrize("made", BASES[:1], indirect=True, ids=["bpe"])
def test_what_was_found_before_the_time_was_up_counts(made, held, monkeypatch):
    job, _ = made
    slow = "import json, time; print(json.dumps({'text': 'red'}), flush=True); time.sleep(60)"
    ask = folder_gate._ask_process
    monkeypatch.setattr(folder_gate, "_ask_process", lambda _, request: ask([sys.executable, "-c", slow], request))
    monkeypatch.setattr(folder_gate, "TIME_S", 3)
    verdicts = {check.name: check.verdict for check in held("hf", job.settings.hf).checks}
    assert [verdicts[name] for name in ("loads and answers", "validation loss")] == ["yes", "not measured"]


@pytest.mark.parametrize(
    ("prompts", "length"),
    (
        ([(1, 2, 3), (1, 2, 4)], 2),
        ([(1, 2), (1, 2, 4)], 1),
        ([(1, 2, 3)], 2),
        ([(5,), (1, 2)], 0),
        ([(1, 3, 2), (1, 2, 2), (1, 3, 9)], 1),
    ),
)
def test_what_all_prompts_begin_with_leaves_each_a_token(prompts, length):
    assert reading.shared_length(prompts) == length


def test_without_demonstrations_a_folder_carries_the_instruction_alone(tmp_path):
    settings = {"types": (), "hf": str(tmp_path / "hf"), "without_demonstrations": True}
    job = make_job(tmp_path, TinySpec(layers=1), **settings)
    (folder,) = export.export(job).folders
    checks = {check.name: check for check in folder.checks}
    assert checks["token ids equal"].value == "2 of 2 prompts, 2 by the folder's template from the bare input"
    assert "answers without the examples" in checks
    for path in (tmp_path / "hf").rglob("*"):
        assert path.is_dir() or b"fire engine" not in path.read_bytes(), path
