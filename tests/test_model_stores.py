"""The models of other programs: found by their own names, used where they lie, and nothing in them touched."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from tiny_models import TinySpec, write_model

from sg_local import models
from sg_local.home import ModelFolders, folders
from sg_local.models.cards import Source
from sg_local.models.hub import cached, hub_card
from sg_local.models.stores import found_models
from sg_local.records import SgError

COMMITS = ["a" * 40, "b" * 40]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A tiny real GGUF model."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", TinySpec(layers=1))


@pytest.fixture
def here(tmp_path) -> ModelFolders:
    """One folder for each program, all empty."""
    named = {name: (tmp_path / name,) for name in ("ollama", "lm_studio", "llama_cpp")}
    return ModelFolders(tmp_path / "cards", tmp_path / "hub", **named)


def names(here: ModelFolders) -> dict[str, str]:
    return {found.name: found.owner for found in found_models(here)}


# The Hugging Face cache


def in_hub(root: Path, repo: str, file: str, data: bytes, commit: str = COMMITS[0], refs: tuple[str, ...] = ()) -> Path:
    """A file in the cache's own layout; `refs` are the branches and tags of its commit."""
    folder = root / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
    path = folder / "snapshots" / commit / file
    for made in (blob.parent, path.parent, folder / "refs"):
        made.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    path.symlink_to(os.path.relpath(blob, path.parent))
    for ref in refs:
        (folder / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    return path


def test_a_file_of_the_cache_is_found_by_its_name_on_the_hub(here, tiny):
    path = in_hub(here.hub, "o/r", "m-Q4_0.gguf", tiny.read_bytes(), refs=("main",))
    assert models.find_model("o/r/m-Q4_0.gguf", here).path == path
    assert names(here) == {"o/r/m-Q4_0.gguf": "Hugging Face"}


def test_a_file_in_a_folder_of_its_repository(here, tiny):
    in_hub(here.hub, "o/r", "Q4/m.gguf", tiny.read_bytes(), refs=("main",))
    assert names(here) == {"o/r/Q4/m.gguf": "Hugging Face"}
    assert models.find_model("o/r/Q4/m.gguf", here).name == "o/r/Q4/m.gguf"


@pytest.mark.parametrize("refs", [(), ("v1.0",), ("refs/pr/1",)])
def test_a_pinned_commit_or_tag_is_found_without_a_main_branch(here, tiny, refs):
    path = in_hub(here.hub, "o/r", "m.gguf", tiny.read_bytes(), refs=refs)
    assert models.find_model("o/r/m.gguf", here).path == path
    for revision in (*refs, COMMITS[0], COMMITS[0][:9]):
        assert models.find_model(f"o/r/m.gguf@{revision}", here).path == path


def test_the_main_branch_comes_first_and_another_commit_has_its_own_name(here, tiny):
    other = in_hub(here.hub, "o/r", "m.gguf", tiny.read_bytes() + bytes(32), COMMITS[1], ("v2",))
    main = in_hub(here.hub, "o/r", "m.gguf", tiny.read_bytes(), COMMITS[0], ("main",))
    os.utime(main.parent, (0, 0))
    assert models.find_model("o/r/m.gguf", here).path == main
    assert models.find_model("o/r/m.gguf@v2", here).path == other
    assert set(names(here)) == {"o/r/m.gguf", f"o/r/m.gguf@{COMMITS[1]}"}


def test_the_same_file_in_two_commits_is_one_model(here, tiny):
    in_hub(here.hub, "o/r", "m.gguf", tiny.read_bytes(), COMMITS[0], ("main",))
    (here.hub / "models--o--r" / "snapshots" / COMMITS[1]).mkdir()
    blob = here.hub / "models--o--r" / "blobs" / hashlib.sha256(tiny.read_bytes()).hexdigest()
    (here.hub / "models--o--r" / "snapshots" / COMMITS[1] / "m.gguf").symlink_to(blob)
    assert list(names(here)) == ["o/r/m.gguf"]


def test_a_pinned_card_takes_its_own_revision(here, tiny):
    in_hub(here.hub, "o/r", "m.gguf", tiny.read_bytes(), COMMITS[0], ("main",))
    assert cached(Source("m.gguf", repo="o/r", revision="v9"), here.hub) is None


@pytest.mark.parametrize(
    "folder",
    [
        "models--org--model--backup",
        "models--only",
        "models--a--b.git",
        "models--a--b..c",
        "models---a--b",
        "datasets--a--b",
    ],
)
def test_a_stray_folder_in_the_cache_is_nobodys(here, tiny, folder):
    stray = here.hub / folder / "snapshots" / "1"
    stray.mkdir(parents=True)
    (stray / "m.gguf").symlink_to(tiny)
    assert names(here) == {}
    assert all(entry.where != "Hugging Face" for entry in models.list_models(here))


@pytest.mark.parametrize(
    "name", ["gguf/my--models/x.gguf", "models/../gguf/missing.gguf", "a/b.git/x.gguf", "./a/b/x.gguf", "a/b/../x.gguf"]
)
def test_a_path_that_cannot_be_a_name_on_the_hub_is_a_path(here, name):
    assert hub_card(name) is None
    with pytest.raises(SgError, match="no model file at"):
        models.find_model(name, here)


def test_a_link_to_a_blob_that_is_gone_is_no_model(here, tiny):
    in_hub(here.hub, "o/r", "m.gguf", tiny.read_bytes(), refs=("main",)).resolve().unlink()
    assert names(here) == {}
    with pytest.raises(SgError, match="not on this machine"):
        models.find_model("o/r/m.gguf", here)


# Ollama


def in_ollama(folder: Path, name: str, data: bytes, kind: str = "application/vnd.ollama.image.model") -> Path:
    """A model in Ollama's layout; `name` is HOST/NAMESPACE/MODEL/TAG."""
    digest = hashlib.sha256(data).hexdigest()
    blob, manifest = folder / "blobs" / f"sha256-{digest}", folder / "manifests" / name
    for made in (blob.parent, manifest.parent):
        made.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": f"sha256:{'1' * 64}", "size": 1},
        {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return blob


@pytest.mark.parametrize(
    ("manifest", "name", "also"),
    [
        ("registry.ollama.ai/library/llama3.2/1b", "llama3.2:1b", ["library/llama3.2:1b"]),
        ("registry.ollama.ai/library/vicuna/latest", "vicuna:latest", ["vicuna"]),
        ("registry.ollama.ai/someone/tuned/q8", "someone/tuned:q8", ["registry.ollama.ai/someone/tuned:q8"]),
        ("hf.co/bartowski/X-GGUF/Q4_K_M", "hf.co/bartowski/X-GGUF:Q4_K_M", []),
    ],
)
def test_a_model_of_ollama_is_found_by_ollamas_name(here, tiny, manifest, name, also):
    blob = in_ollama(here.ollama[0], manifest, tiny.read_bytes())
    assert names(here) == {name: "Ollama"}
    for word in (name, *also):
        found = models.find_model(word, here)
        assert (found.path, found.name) == (blob, word)


def test_ollamas_other_formats_and_broken_manifests_are_passed_over(here, tiny):
    root = here.ollama[0]
    in_ollama(root, "registry.ollama.ai/library/image/latest", b"tensor", "application/vnd.ollama.image.tensor")
    in_ollama(root, "registry.ollama.ai/library/gone/latest", b"x").unlink()
    broken = root / "manifests/registry.ollama.ai/library/broken"
    for tag, text in {"a": "{", "b": "[]", "c": '{"layers": [{}]}', "d": '{"layers": 3}'}.items():
        broken.mkdir(exist_ok=True)
        (broken / tag).write_text(text)
    escape = [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x"}]
    (broken / "e").write_text(json.dumps({"layers": escape}))
    assert names(here) == {}
    with pytest.raises(SgError, match="no model named"):
        models.find_model("broken:a", here)


def test_a_card_finds_its_file_in_ollamas_store_by_its_digest(here, tiny):
    blob = in_ollama(here.ollama[0], "registry.ollama.ai/library/tiny/1b", tiny.read_bytes())
    here.cards.mkdir()
    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    (here.cards / "mine.toml").write_text(f'[source]\nrepo = "o/r"\nfile = "m.gguf"\nsha256 = "{digest}"')
    assert models.find_model("mine", here).path == blob
    assert [entry.name for entry in models.list_models(here) if entry.where == "Ollama"] == ["mine"]


def test_a_mistyped_name_of_ollama_gets_the_nearest(here, tiny):
    in_ollama(here.ollama[0], "registry.ollama.ai/library/mymodel/7b", tiny.read_bytes())
    with pytest.raises(SgError) as raised:
        models.find_model("mymodle:7b", here)
    assert raised.value.hint == "Did you mean mymodel:7b?"


# LM Studio and llama.cpp


def test_a_model_of_lm_studio_has_its_name_on_the_hub(here, tiny):
    path = here.lm_studio[0] / "o" / "r" / "m-Q4_0.gguf"
    path.parent.mkdir(parents=True)
    path.symlink_to(tiny)
    (path.parent / "mmproj-m.gguf").symlink_to(tiny)
    (path.parent / "big-00002-of-00003.gguf").symlink_to(tiny)
    assert names(here) == {"o/r/m-Q4_0.gguf": "LM Studio"}
    assert models.find_model("o/r/m-Q4_0.gguf", here).path == path


def test_a_model_of_llama_cpp_is_found_flat(here, tiny):
    path = here.llama_cpp[0] / "o_r_m-Q4_0.gguf"
    path.parent.mkdir()
    path.symlink_to(tiny)
    assert names(here) == {"o_r_m-Q4_0.gguf": "llama.cpp"}
    assert models.find_model("o_r_m-Q4_0.gguf", here).path == path
    assert models.find_model("o/r/m-Q4_0.gguf", here).path == path


def test_llama_cpp_since_2026_keeps_the_layout_of_the_hub(here, tiny):
    path = in_hub(here.llama_cpp[0], "o/r", "m.gguf", tiny.read_bytes(), refs=("main",))
    assert names(here) == {"o/r/m.gguf": "llama.cpp"}
    assert models.find_model("o/r/m.gguf", here).path == path


@pytest.mark.parametrize("program", ["hub", "lm_studio", "llama_cpp"])
def test_a_card_finds_its_file_whoever_fetched_it(here, tiny, program):
    here.cards.mkdir()
    (here.cards / "mine.toml").write_text('chat_template = "T"\n[source]\nrepo = "o/r"\nfile = "m.gguf"')
    if program == "hub":
        in_hub(here.hub, "o/r", "m.gguf", tiny.read_bytes(), refs=("main",))
    else:
        path = here.lm_studio[0] / "o/r/m.gguf" if program == "lm_studio" else here.llama_cpp[0] / "o_r_m.gguf"
        path.parent.mkdir(parents=True)
        path.symlink_to(tiny)
    found = models.find_model("mine", here)
    assert (found.name, found.chat_template) == ("mine", "T")
    shown = [entry for entry in models.list_models(here) if entry.path is not None and entry.where != "package"]
    assert [entry.name for entry in shown] == ["mine"]


def test_a_folder_that_cannot_be_read_holds_nothing(tmp_path):
    plain = tmp_path / "file"
    plain.write_text("")
    blocked = ModelFolders(tmp_path / "c", plain, None, (plain,), (plain,), (plain / "below",))
    assert found_models(blocked) == []


# The folders that an environment names


def test_the_usual_folders():
    found = folders({"HOME": "/h"})
    assert found.models.cards == Path("/h/.config/sg-local/models")
    assert found.models.old_cards == Path("/h/.cache/sg-local/models")
    assert found.models.hub == Path("/h/.cache/huggingface/hub")
    assert found.models.ollama[0] == Path("/h/.ollama/models")
    assert found.models.lm_studio == (Path("/h/.lmstudio/models"), Path("/h/.cache/lm-studio/models"))
    assert found.models.llama_cpp[0] == Path("/h/.cache/llama.cpp")


@pytest.mark.parametrize(
    ("variable", "value", "field", "folder"),
    [
        ("SG_LOCAL_HOME", "/s", "cards", "/s/models"),
        ("XDG_CONFIG_HOME", "/x", "cards", "/x/sg-local/models"),
        ("XDG_CACHE_HOME", "/x", "old_cards", "/x/sg-local/models"),
        ("XDG_CACHE_HOME", "/x", "hub", "/x/huggingface/hub"),
        ("HF_HOME", "/f", "hub", "/f/hub"),
        ("HF_HUB_CACHE", "/f", "hub", "/f"),
        ("HUGGINGFACE_HUB_CACHE", "/f", "hub", "/f"),
        ("OLLAMA_MODELS", "/o", "ollama", "/o"),
        ("LLAMA_CACHE", "/l", "llama_cpp", "/l"),
    ],
)
def test_a_variable_moves_a_folder(variable, value, field, folder):
    found = getattr(folders({"HOME": "/h", variable: value}).models, field)
    assert (found[0] if isinstance(found, tuple) else found) == Path(folder)


def test_the_hub_folder_is_the_clients_own():
    from huggingface_hub import constants

    assert str(folders(os.environ).models.hub) == constants.HF_HUB_CACHE


def test_cards_in_one_folder_are_not_read_twice():
    assert folders({"HOME": "/h", "SG_LOCAL_HOME": "/s"}).models.old_cards is None


@pytest.mark.parametrize("commit", ["../../../other", "..", "a/b", "a\0b", "x" * 2000])
def test_a_branch_leads_to_a_commit_and_nowhere_else(here, tiny, commit):
    path = in_hub(here.hub, "o/r", "m-Q4_0.gguf", tiny.read_bytes(), refs=("main",))
    (here.hub / "models--o--r/refs/main").write_text(commit)
    assert [found.path for found in found_models(here)] == [path]
