"""Where sg-local keeps models, caches and settings on this machine, and where other programs keep models.

SG_LOCAL_HOME holds everything of sg-local's where it is set; else the XDG folders do, as on any Unix machine. Nothing
is made here, and a folder that is named need not be there. The switches of libraries that would tell others of their
use, or ask the network, are set here too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SILENT = {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
"""What keeps the Hub's client, and whoever heeds donottrack.sh, from telling of their use."""


@dataclass(frozen=True)
class ModelFolders:
    """The folders in which models are looked for.

    `cards` holds the user's own cards, and `old_cards` those that 0.1.0 wrote: they are read, and nothing is written
    there. `hub` is the Hugging Face cache. The others belong to Ollama (`blobs` and `manifests`), LM Studio
    (publisher/repository/file) and llama.cpp (its cache).
    """

    cards: Path
    hub: Path
    old_cards: Path | None = None
    ollama: tuple[Path, ...] = ()
    lm_studio: tuple[Path, ...] = ()
    llama_cpp: tuple[Path, ...] = ()

    @classmethod
    def of(cls, home: Path) -> Self:
        """The folders inside one folder of sg-local's own, and no other program's."""
        return cls(home / "models", home / "hub")


@dataclass(frozen=True)
class Folders:
    """`config` holds config.toml and the user's model cards; `data` what can be made again."""

    config: Path
    data: Path
    models: ModelFolders


def folders(environ: Mapping[str, str] | None = None) -> Folders:
    """The folders that an environment names (None: this process's own)."""
    environ = os.environ if environ is None else environ
    own = environ.get("SG_LOCAL_HOME")
    home = Path(environ.get("HOME") or "~").expanduser()
    config = Path(own or Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "sg-local")
    data = Path(own or _cache(environ) / "sg-local")
    return Folders(config, data, model_folders(environ, config / "models", data / "models"))


def cache_folder(given: Path | None = None) -> Path:
    """Where an engine keeps what can be made again: the folder given, else the user's cache folder of sg-local."""
    return folders().data if given is None else given


def tell_nobody() -> None:
    """Keep libraries from telling of their use, in this process and those that it starts; a switch that is set stays.

    It counts for libraries that are imported later. Whether a program may use the network is its own affair: jobs do
    not ask, and `HF_HUB_OFFLINE` stays as it is.
    """
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)


def secret(name: str) -> str:
    """What an environment variable holds that is kept out of settings and files; empty where it is not set."""
    return os.environ.get(name, "")


def stay_offline() -> None:
    """Keep the Hub's client off the network: for processes of our own, before it is imported."""
    tell_nobody()
    os.environ["HF_HUB_OFFLINE"] = "1"


def model_folders(environ: Mapping[str, str], cards: Path, old_cards: Path) -> ModelFolders:
    """The folders of models that an environment names, or that its programs use by custom.

    The rules are those of the Hub's own client (its constants.py), Ollama's envconfig, LM Studio's docs on importing
    models (its older folder is below the cache), and llama.cpp's common/hf-cache.cpp and fs_get_cache_directory.
    """
    home = Path(environ.get("HOME") or "~").expanduser()
    ollama = environ.get("OLLAMA_MODELS")
    llama_cpp = environ.get("LLAMA_CACHE")
    return ModelFolders(
        cards=cards,
        old_cards=old_cards if old_cards != cards else None,
        hub=_hub(environ),
        ollama=(Path(ollama),) if ollama else (home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")),
        lm_studio=(home / ".lmstudio/models", _cache(environ) / "lm-studio/models"),
        llama_cpp=(
            (Path(llama_cpp),) if llama_cpp else (_cache(environ) / "llama.cpp", home / "Library/Caches/llama.cpp")
        ),
    )


def _cache(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".cache")


def _hub(environ: Mapping[str, str]) -> Path:
    named = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    home = environ.get("HF_HOME") or str(_cache(environ) / "huggingface")
    return Path(os.path.expandvars(named or os.path.join(home, "hub"))).expanduser()
