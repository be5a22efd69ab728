"""What is refused before there is an adapter: by the base's header and the settings alone."""

from __future__ import annotations

import numpy as np
import pytest
from bounds import soon
from tiny_models import CHATML, VICUNA, TinySpec, write_model

from sg_local import export, gguf, prompts
from sg_local.records import Pair, SgError, Task

TASK = Task("colours", "generation", "Name the colour.", (Pair("a fire engine", "red"),))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("base") / "m.gguf", TinySpec(layers=1))


def settings(**given):
    return export.ExportSettings(**{"types": ("Q8_0",), **given})


def with_fields(base, path, **fields):
    gguf.copy_with_fields(base, path, {key.replace("__", "."): value for key, value in fields.items()})
    return path


def test_what_can_be_exported_is_let_through_at_once(base, tmp_path):
    form = prompts.form_named(prompts.forms(CHATML, "", "<|im_end|>", False), "chat")
    with soon():
        export.refuse_early(base, settings(hf=str(tmp_path / "hf"), mlx=str(tmp_path / "mlx")), TASK, form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ("hf", "mlx"))
@pytest.mark.parametrize(
    ("fields", "message"),
    (
        ({"tokenizer__ggml__pre": "kimi-k2"}, "its pre-tokenizer 'kimi-k2' is not known"),
        ({"tokenizer__ggml__model": "t5"}, "its tokenizer 't5' cannot be written"),
    ),
)
def test_a_base_without_a_folder_form_is_refused_for_folders_alone(base, tmp_path, kind, fields, message):
    odd = with_fields(base, tmp_path / "odd.gguf", **fields)
    with pytest.raises(SgError, match=message) as caught:
        export.refuse_early(odd, settings(**{kind: str(tmp_path / "folder")}))
    assert caught.value.hint
    export.refuse_early(odd, settings())


@pytest.mark.parametrize(
    ("given", "message"),
    (
        ({"types": ("Q9",)}, "no export type 'Q9'"),
        ({"hf": "same", "mlx": "same"}, "`export.mlx` and `export.hf` name the same folder"),
        ({"hf": "."}, "holds other files"),
    ),
)
def test_settings_that_can_lead_to_nothing_are_refused(base, tmp_path, monkeypatch, given, message):
    (tmp_path / "diary.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SgError, match=message) as caught:
        export.refuse_early(base, settings(**given))
    assert caught.value.exit_code == 2


def test_a_source_that_is_quantised_or_of_another_model_is_refused(base, tmp_path):
    float_base = write_model(tmp_path / "f16.gguf", TinySpec(type="F16", head_type="F16", layers=1))
    other = write_model(tmp_path / "other.gguf", TinySpec(type="F16", layers=2))
    export.refuse_early(base, settings(from_f16=str(float_base)))
    for source, message in ((base, "is quantised"), (other, "not the same model")):
        with pytest.raises(SgError, match=message):
            export.refuse_early(base, settings(from_f16=str(source)))


def test_a_template_that_cannot_carry_the_task_is_refused_where_it_would_have_to(base):
    form = prompts.Form("chat", "{{ prompt }}")
    with pytest.raises(SgError, match="does not read `messages`"):
        export.refuse_early(base, settings(), TASK, form)
    export.refuse_early(base, settings(plain_template=True), TASK, form)
    export.refuse_early(base, settings(types=()), TASK, form)


def test_rotary_factors_that_no_config_says_are_refused(base, tmp_path):
    path, factors = tmp_path / "factors.gguf", np.linspace(1, 7, 32, dtype=np.float32)
    with gguf.GgufFile(base) as file:
        plans = [gguf.TensorPlan(t.name, t.shape, t.type) for t in file.tensors.values()]
        plans.append(gguf.TensorPlan("rope_freqs.weight", factors.shape, "F32"))
        plan = gguf.FilePlan([field.raw for field in file.fields.values()], plans)
        gguf.write_gguf(
            path, plan, lambda one: [file.rows(file.tensors[one.name]) if one.name in file.tensors else factors]
        )
    with pytest.raises(SgError, match="rotary frequencies"):
        export.refuse_early(path, settings(hf=str(tmp_path / "hf")))


@pytest.mark.parametrize(
    ("template", "layout", "given", "refused"),
    (
        (VICUNA, prompts.WHOLE, {"plain_template": True}, True),
        (VICUNA, prompts.WHOLE, {"plain_template": True, "types": ()}, False),
        (VICUNA, prompts.WHOLE, {}, False),
        (VICUNA, prompts.LEAD, {"plain_template": True}, False),
        (CHATML, prompts.WHOLE, {"plain_template": True}, False),
    ),
)
def test_the_base_s_own_template_is_refused_where_it_asks_otherwise_than_training(
    base, template, layout, given, refused
):
    form = prompts.in_layout(prompts.chat_form(template, "<s>", "</s>", True), layout)
    if not refused:
        return export.refuse_early(base, settings(**given), TASK, form)
    with pytest.raises(SgError, match="does not ask with the line end") as caught:
        export.refuse_early(base, settings(**given), TASK, form)
    assert caught.value.exit_code == 2 and "`export.plain_template`" in caught.value.hint
