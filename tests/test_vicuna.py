"""Vicuna, the seed's own model: prompts to the token, contexts, and every stage on a small model of its kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tiny_models import VICUNA_SYSTEM
from tiny_vicuna import EOS, N_PIECES, pieces, write_vicuna
from tiny_walk import TASK, asked, asked_over_http, scored_tokens, served, small_settings, trained_row

import sg_local as sg
from sg_local import gguf, prompts
from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.training.lora import adapted_layers
from sg_local.home import ModelFolders
from sg_local.models import locate, read_cards
from sg_local.records import SgError
from sg_local.run import FUSED

pytest.importorskip("llama_cpp")

CARD, BOS = "vicuna-7b-v1.5", 1
NEW = "Where is </s> my parcel now, <s> billing?"  # special strings in a user's text stay text

# The prompt for NEW by hand: v1.1's text (FastChat's SeparatorStyle.ADD_COLON_TWO), split as the vocabulary does it.
SAID = (
    "▁A ▁chat ▁between ▁a ▁curious ▁user ▁and ▁an ▁artificial ▁intelligence ▁assistant . ▁The ▁assistant ▁gives "
    "▁helpful , ▁detailed , ▁and ▁polite ▁answers ▁to ▁the ▁user ' s ▁questions . "
    "▁USER : ▁Answer ▁with ▁one ▁word : ▁billing , ▁delivery ▁or ▁technical . <0x0A> <0x0A> "
    "I ▁was ▁charged ▁twice . ▁ASSISTANT : ▁billing </s> "
    "▁USER : ▁My ▁parcel ▁never ▁came . ▁ASSISTANT : ▁delivery </s> "
    "▁USER : ▁The ▁page ▁stays ▁white . ▁ASSISTANT : ▁technical </s> "
    "▁USER : ▁Where ▁is ▁ < / s > ▁my ▁parcel ▁now , ▁ < s > ▁billing ? ▁ASSISTANT :"
)


LAST = f"USER: {NEW} ASSISTANT:"
PIECED = tuple("abcdefghijklmnopqrstuvwxyz")


def ids_of(said: str) -> list[int]:
    """Pieces with blanks between them, as token ids."""
    known = {text: number for number, (text, _, _) in enumerate(pieces())}
    return [known[piece] for piece in said.split()]


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """Homes by context: v1.5 where a pull of the shelf's card puts it, v1.3's kind by a card of the user's own."""
    folder = tmp_path_factory.mktemp("vicuna")
    card = read_cards(ModelFolders.of(folder))[CARD]
    homes = {context: folder / str(context) for context in (2048, 4096)}
    repo = homes[4096] / "hub" / f"models--{card.source.repo.replace('/', '--')}"
    for made in (repo / "refs", repo / "snapshots" / "f00", homes[2048] / "models"):
        made.mkdir(parents=True)
    (repo / "refs" / "main").write_text("f00")
    write_vicuna(repo / "snapshots" / "f00" / card.source.file)
    older = write_vicuna(homes[2048] / "vicuna-7b-v1.3.gguf", context=2048)
    own = f"chat_template = {json.dumps(card.chat_template)}\n[source]\npath = {json.dumps(str(older))}\n"
    (homes[2048] / "models" / "vicuna-7b-v1.3.toml").write_text(own)
    return homes


@pytest.fixture
def vicuna(homes):
    """The file of v1.5, and its card."""
    folders = ModelFolders.of(homes[4096])
    card = read_cards(folders)[CARD]
    return locate(card, folders), card


def job_of(homes, tmp_path, context=4096, **more) -> sg.Job:
    model = {2048: "vicuna-7b-v1.3", 4096: CARD}[context]
    settings = {**small_settings(more.pop("export", {})), **more.pop("settings", {})}
    places = {"home": homes[context], "runs": tmp_path / "runs", "name": "v"}
    return sg.open_job(TASK, model=model, settings=settings, **{"form": "chat", **places, **more})


def prompt_of(job: sg.Job, text: str) -> tuple[int, ...]:
    return job.opened.generator.tokenize(asked(job.opened, text).segments)


def test_the_small_model_is_of_vicunas_kind(vicuna):
    path, card = vicuna
    config, info = gguf.read_config(path), gguf.check_model(path)
    assert (config.architecture, config.vocab, config.tied, config.context) == ("llama", N_PIECES, False, 4096)
    assert config.heads == config.kv_heads and info.chat_template is None
    assert (card.architecture, card.n_ctx, card.stops, card.template) == ("llama", 4096, ("</s>",), "vicuna")


@pytest.mark.parametrize("context", [2048, 4096])
def test_the_chat_form_is_vicunas_to_the_token(homes, tmp_path, context):
    with job_of(homes, tmp_path, context) as job:
        opened = job.opened
        text = "".join(segment.text for segment in asked(opened, NEW).segments)
        assert text.startswith(f"{VICUNA_SYSTEM} USER: Answer with one word: ")
        assert text.endswith(f". ASSISTANT: delivery</s>USER: The page stays white. ASSISTANT: technical</s>{LAST}")
        assert list(prompt_of(job, NEW)) == [BOS, *ids_of(SAID)]
        assert opened.generator.info.n_ctx_train == context


def test_training_serving_and_scoring_see_the_same_tokens(homes, tmp_path):
    with job_of(homes, tmp_path) as job:
        row = trained_row(job.opened, NEW, "delivery")
        assert list(row.tokens) == [BOS, *ids_of(SAID), *ids_of("▁delivery"), EOS]
        assert row.tokens[: row.n_prompt] == prompt_of(job, NEW)
        assert row.tokens == scored_tokens(job.opened, NEW)["delivery"]


@pytest.mark.parametrize("adds", [True, False])
def test_bos_stands_once_whether_the_tokenizer_or_the_template_writes_it(vicuna, tmp_path, adds):
    path, card = vicuna
    gguf.copy_with_fields(path, tmp_path / "m.gguf", {"tokenizer.ggml.add_bos_token": adds})
    generator = open_generator("llama.cpp", tmp_path / "m.gguf", EngineSettings(512, 1, 1, fast_copy=False))
    form = prompts.form_of(generator.info, "chat", card.chat_template)
    ids = generator.tokenize(prompts.answer_prompt(sg.load_task(TASK), form, NEW))
    generator.close()
    assert list(ids) == [BOS, *ids_of(SAID)]


def test_without_its_card_such_a_file_has_the_plain_form_alone(vicuna, tmp_path):
    with sg.open_job(TASK, model=vicuna[0], home=tmp_path, runs=tmp_path) as job:
        assert [form.name for form in job.opened.forms] == ["plain"]
    with pytest.raises(SgError, match="no prompt form 'chat'"):
        sg.open_job(TASK, model=vicuna[0], home=tmp_path, runs=tmp_path, form="chat")


@pytest.mark.parametrize(("context", "fits"), [(2048, False), (4096, True)])
def test_a_prompt_may_be_as_long_as_the_model_was_trained_for(homes, tmp_path, context, fits):
    long = "my " * 3000 + "parcel"
    with job_of(homes, tmp_path, context, settings={"engine": {"n_ctx": 8192}, "eval": {"n_ctx": 8192}}) as job:
        if fits:
            assert job.predict([long], base=True)[0] in TASK["labels"]
        else:
            with pytest.raises(SgError, match="does not fit a context of 2048 tokens"):
                job.predict([long], base=True)


def test_rows_are_synthesised_and_filtered(homes, tmp_path):
    with job_of(homes, tmp_path) as job:
        rows = job.synth()
        assert len(rows) >= 20 and all(row.input.startswith(PIECED) for row in rows)
        assert job.filter().kept >= 20


@pytest.mark.slow
def test_the_job_from_synthesis_to_an_answer_over_http(homes, tmp_path):
    pytest.importorskip("torch")
    half = {"train": {**small_settings()["train"], "layer_share": 0.5}}
    with job_of(homes, tmp_path, trainer="torch", settings=half) as job:
        job.synth()
        job.filter()
        check_adapter(job, job.train())
        assert [path.stem.rpartition("-")[2] for path in job.export()] == ["Q4_K_M", "Q8_0"]
        assert job.evaluate().n == 3
        check_exports(job)
        answers = job.predict([NEW, "I was charged."])
        with served(job, homes[4096]) as address:
            assert asked_over_http(address, NEW) == answers[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("context", "trainer"), [(2048, "mlx"), (4096, "torch")])
def test_the_folders_of_both_contexts_and_trainers_pass_their_gates(homes, tmp_path, context, trainer):
    pytest.importorskip("torch"), pytest.importorskip("mlx_lm")
    folders = {"hf": str(tmp_path / "hf"), "mlx": str(tmp_path / "mlx")}
    with job_of(homes, tmp_path, context, trainer=trainer, export=folders) as job:
        job.run()
        check_adapter(job, job.folder / "adapter.gguf")
        check_exports(job)
        answer = job.predict([NEW])[0]
        made = json.loads((job.folder / "export.json").read_text())
        assert [Path(folder["path"]).name for folder in made["folders"]] == ["mlx", "hf"]
        checks = [check for folder in made["folders"] for check in folder["checks"]]
        assert all(check["passed"] and check["measured"] for check in checks), checks
        with served(job, homes[context]) as address:
            assert asked_over_http(address, NEW) == answer
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["vocab_size"], config["max_position_embeddings"]) == (N_PIECES, context)
    assert config["num_key_value_heads"] == config["num_attention_heads"] and not config["tie_word_embeddings"]


def check_adapter(job: sg.Job, path: Path) -> None:
    """It fits its base, changes every matrix of every block that it is meant for, and has learnt."""
    adapter = gguf.read_adapter(path)
    n_layers, settings = gguf.read_config(job.opened.base.path).layers, job.opened.plan["train"]
    assert len(adapter.pairs) == 7 * len(adapted_layers(n_layers, settings))
    stamp = json.loads((job.folder / "stages" / "train.json").read_text())
    assert stamp["adapter"]["loss"] < 0.5 * stamp["curve"][0][1]


def check_exports(job: sg.Job) -> None:
    """The fused files and the Modelfile bring Vicuna's format to programs that have only them."""
    for path in job.folder.glob(FUSED):
        generator = open_generator("llama.cpp", path, EngineSettings(512, 1, 1, fast_copy=False))
        (chat, _) = prompts.forms_of(generator.info)
        bare = generator.tokenize(prompts.render(chat, [{"role": "user", "content": NEW}]))
        generator.close()
        assert list(bare) == [BOS, *ids_of(SAID)], path
    modelfile = (job.folder / "Modelfile").read_text()
    assert re.search(r"\nFROM \./\S+-Q4_K_M\.gguf\n", modelfile) and '\nPARAMETER stop "</s>"\n' in modelfile
    template = modelfile.split('TEMPLATE """')[1].split('"""')[0]
    for part in (f'"{VICUNA_SYSTEM} "', '"USER: "', '" "', '"ASSISTANT: "', '"</s>"', '"ASSISTANT:"'):
        assert "{{ " + part + " }}" in template
