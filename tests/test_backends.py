"""The two protocols, held by every backend that is installed: the same calls, the same promises."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
from endpoint_server import Endpoint, TinyModel, serving
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

import sg_local
from sg_local.backends import (
    GENERATORS,
    TRAINERS,
    EngineSettings,
    TrainSettings,
    choices,
    choose_trainer,
    is_installed,
    makes_weights,
    needs_model,
    open_generator,
    open_trainer,
)
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.files import file_digest
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segment, SgError, TokenExample

F32 = TinySpec(type="F32", head_type="F32", width=64, ffn=128)
SETTINGS = TrainSettings(rank=4, alpha=8.0, epochs=2.0, batch_size=4, n_threads=1)
# peft asks transformers under a name that the latter renames.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def installed(table):
    """The table's names; those without their packages are skipped by name."""
    missing = pytest.mark.skip(reason="not installed")
    return [name if is_installed(backend) else pytest.param(name, marks=missing) for name, backend in table.items()]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("contract") / "tiny.gguf", F32)


@pytest.fixture(scope="module", params=installed(GENERATORS))
def generator(request, model, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    settings = EngineSettings(n_ctx=256, n_parallel=4, n_threads=1, fast_copy=False, cache=cache)
    if not GENERATORS[request.param].asks:
        opened = open_generator(request.param, model, settings)
        yield opened
        opened.close()
        return
    tiny = TinyModel(model)
    with serving(Endpoint(tiny)) as endpoint:
        opened = open_generator(request.param, model, replace(settings, endpoint=endpoint.address))
        yield opened
        opened.close()
    tiny.close()


def asked(n: int, **sampling) -> list[Prompt]:
    chosen = Sampling(**{"temperature": 1.0, "max_tokens": 8, **sampling})
    return [Prompt(f"p{i}", (Segment(f"Line {i} of a list.\nInput:"),), chosen, seed=i) for i in range(n)]


def texts(generator, prompts) -> dict[str, str]:
    return {done.prompt_id: done.text for done in generator.generate(prompts)}


# Generators


def test_a_generator_says_which_model_it_has(generator, model):
    assert generator.info.digest == file_digest(model)
    assert generator.info.n_ctx_train > 0
    assert generator.info.architecture == "llama"


def test_every_prompt_gets_one_completion(generator):
    prompts = asked(9)
    done = list(generator.generate(iter(prompts)))
    assert sorted(one.prompt_id for one in done) == sorted(prompt.id for prompt in prompts)
    assert all(one.n_tokens <= 8 or one.finish == "stop" for one in done)


def test_the_same_prompts_and_seeds_give_the_same_texts(generator):
    assert texts(generator, asked(5)) == texts(generator, asked(5))


def test_none_means_no_more_for_now(generator):
    first, second = asked(2)
    assert set(texts(generator, [first, None, second])) == {"p0", "p1"}


def test_no_prompts_give_nothing(generator):
    assert list(generator.generate([])) == []
    assert list(generator.score([])) == []


def test_stop_strings_are_not_part_of_the_text(generator):
    whole = texts(generator, asked(4, temperature=0.0, max_tokens=24))
    stop = next(text[1] for text in whole.values() if len(text) > 1)
    cut = texts(generator, asked(4, temperature=0.0, max_tokens=24, stop=(stop,)))
    assert cut == {name: text.split(stop)[0] for name, text in whole.items()}


def test_scores_come_for_every_continuation(generator):
    prompts = [ScoredPrompt(f"s{i}", (Segment(f"Message {i}:"),), (" yes", " no", " perhaps"), True) for i in range(5)]
    scores = {score.prompt_id: score.logprobs for score in generator.score(prompts)}
    assert set(scores) == {prompt.id for prompt in prompts}
    assert all(len(found) == 3 and max(found) < 0 for found in scores.values())
    assert scores == {score.prompt_id: score.logprobs for score in generator.score(prompts)}


def test_going_back_to_the_base_gives_the_base_s_answers(generator, model, tmp_path):
    before = texts(generator, asked(3, temperature=0.0))
    generator.use_adapter(write_lora(tmp_path / "adapter.gguf", lora_pairs(F32, size=0.5), 8.0))
    assert set(texts(generator, asked(3, temperature=0.0))) == set(before)
    generator.use_adapter(None)
    assert texts(generator, asked(3, temperature=0.0)) == before


def test_special_tokens_count_only_where_trusted(generator):
    if isinstance(generator, ScriptedGenerator):
        pytest.skip("the scripted backend has no special tokens")
    trusted = generator.tokenize((Segment("<|im_end|>"),), bos=False)
    untrusted = generator.tokenize((Segment("<|im_end|>", trusted=False),), bos=False)
    assert len(trusted) == 1 < len(untrusted)


def test_a_prompt_beyond_the_context_is_refused_in_words(generator):
    if isinstance(generator, ScriptedGenerator):
        pytest.skip("the scripted backend has no context")
    with pytest.raises(SgError, match="context|tokens"):
        list(generator.generate([Prompt("long", (Segment("word " * 2000),), Sampling(max_tokens=4))]))
    assert len(texts(generator, asked(2))) == 2


# Trainers


def rows(n: int) -> list[TokenExample]:
    return [TokenExample(f"r{i}", (5, 6, 7, 8, 10 + i, 40 + i % 3, 2), 5) for i in range(n)]


@pytest.mark.parametrize("name", installed(TRAINERS))
def test_a_trainer_tells_every_step_and_writes_an_adapter(name, model, tmp_path):
    steps = []
    adapter = open_trainer(name, model).train(rows(12), rows(4), tmp_path / "adapter", SETTINGS, steps.append)
    assert [step.step for step in steps if step.step] == list(range(1, 7))
    assert all(step.n_steps == 6 and step.loss > 0 for step in steps)  # step 0 measures the untrained base
    assert adapter.path == str(tmp_path / "adapter" / "adapter.gguf")
    assert adapter.digest == file_digest(Path(adapter.path))
    assert adapter.base_digest == file_digest(model)
    assert (adapter.rank, adapter.alpha, adapter.n_steps) == (4, 8.0, 6)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("name", installed(TRAINERS))
def test_a_trainer_does_the_same_twice(name, model, tmp_path):
    made = [
        open_trainer(name, model).train(rows(8), (), tmp_path / folder, SETTINGS, lambda step: None).digest
        for folder in ("one", "two")
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("table", [GENERATORS, TRAINERS], ids=["generators", "trainers"])
def test_a_backend_that_is_not_installed_names_its_extra(table, monkeypatch, tmp_path):
    monkeypatch.setattr("sg_local.backends.find_spec", lambda name: None)
    for name, backend in table.items():
        if backend.needs:
            with pytest.raises(SgError) as caught:
                (open_generator if table is GENERATORS else open_trainer)(name, tmp_path / "m.gguf")
            assert f"pip install 'sg-local[{backend.extra}]'" in caught.value.hint


@pytest.mark.parametrize("name", ["llama.cpp", "mlx", "torch", "openai", "auto"])
def test_what_works_on_models_needs_one_and_makes_weights(name):
    assert needs_model(name) and makes_weights(name)


def test_the_scripted_backend_needs_no_file_makes_no_weights_and_trains_for_itself():
    assert not needs_model("scripted") and not makes_weights("scripted")
    assert choose_trainer("auto", "scripted") == "scripted"
    assert choose_trainer("torch", "scripted") == "torch"


@pytest.mark.parametrize("table", [GENERATORS, TRAINERS], ids=["generators", "trainers"])
def test_people_are_offered_what_serves_them(table):
    shown, hidden = choices(table)
    assert shown[0] == "auto" and hidden == ("scripted",)
    assert {*shown, *hidden} == {"auto", *table}


def test_no_backend_is_told_by_its_name_outside_the_table():
    """What differs between backends is asked of their rows."""
    package = Path(sg_local.__file__).parent
    named = [path for path in package.rglob("*.py") if '"scripted"' in path.read_text(encoding="utf-8")]
    assert {path.relative_to(package).as_posix() for path in named} == {"backends/__init__.py", "backends/scripted.py"}


@pytest.mark.parametrize("backend", [*GENERATORS.values(), *TRAINERS.values()], ids=lambda backend: backend.module)
def test_every_module_of_the_table_opens_what_it_promises(backend):
    if not is_installed(backend):
        pytest.skip("not installed")
    module = importlib.import_module(backend.module)
    table = [name for name, listed in {**GENERATORS, **TRAINERS}.items() if listed.module == backend.module]
    assert all(hasattr(module, "open_generator") for name in table if name in GENERATORS)
    assert all(hasattr(module, "open_trainer") for name in table if name in TRAINERS)
