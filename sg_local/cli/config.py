"""Where settings come from: flag over environment over config file over default.

The config file is TOML in the XDG config folder, or in SG_LOCAL_HOME where that is set. Its top-level keys are the
options in OPTIONS; its tables (`[synth]`, `[filter.near_duplicate]`, ...) set single fields of a stage, as `--set`
does. This is the only module that reads or writes environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sg_local.backends.machine import SPINS
from sg_local.home import ModelFolders, folders
from sg_local.job.options import Home
from sg_local.records import SgError

OPTIONS = {
    "model": "SG_LOCAL_MODEL",
    "backend": "SG_LOCAL_BACKEND",
    "trainer": "SG_LOCAL_TRAINER",
    "form": "SG_LOCAL_FORM",
    "seed": "SG_LOCAL_SEED",
    "preset": "SG_LOCAL_PRESET",
    "runs": "SG_LOCAL_RUNS",
    "judge": "SG_LOCAL_JUDGE",
}
"""Options that a config file and the environment may give, with the environment variable of each."""


VARIABLES = {
    "SG_LOCAL_HOME": "One folder for config file, model cards and cache, instead of the XDG folders.",
    **{variable: f"Same as --{option}." for option, variable in OPTIONS.items()},
    "SG_LOCAL_ENDPOINT_KEY": "API key for the server given by --endpoint.",
    "SG_LOCAL_API_KEY": "Same as --api-key of serve.",
    "SG_LOCAL_LOG": "Append a log of every decision to this file.",
    "SG_LOCAL_LOG_TEXTS": "Set to 1 to include prompts and completions in that log.",
    "NO_COLOR": "If set, output has no colours.",
    "VISUAL, EDITOR": "Editor for rows under review.",
    "XDG_CONFIG_HOME, XDG_CACHE_HOME": "Folders of the config file and the cache, unless SG_LOCAL_HOME is set.",
    "HF_HUB_CACHE, HF_HOME": "The Hugging Face cache: models are found there and downloaded to it.",
    "OLLAMA_MODELS": "Where Ollama keeps its models, which can be used here.",
    "LLAMA_CACHE": "Where llama.cpp keeps its models, which can be used here.",
}
"""Every variable that is read, and what it does: `sg-local help environment` and the docs show them."""


@dataclass(frozen=True)
class Environment:
    """What the process was started in: folders, and the config file's values.

    `models` are the folders of models; `options` holds the file's option values, `tables` its stage settings; `log` is
    the file for what is decided, `offline` lets nobody be asked. A config file that cannot be read is `broken`: help
    and doctor do without it, every other command asks `refuse_broken`.
    """

    config_path: Path
    data: Path
    models: ModelFolders
    user: str
    editor: str
    options: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    log: Path | None = None
    log_texts: bool = False
    broken: SgError | None = None
    offline: bool = False

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """The environment with the config file read."""
        found = folders(environ)
        path = found.config / "config.toml"
        options, tables, broken = _read_or_broken(path)
        user = environ.get("SG_LOCAL_JUDGE") or environ.get("USER") or environ.get("LOGNAME") or "me"
        editor = environ.get("VISUAL") or environ.get("EDITOR") or "vi"
        log = environ.get("SG_LOCAL_LOG")
        texts = environ.get("SG_LOCAL_LOG_TEXTS") == "1"
        log_file = Path(log).expanduser() if log else None
        return cls(path, found.data, found.models, user, editor, options, tables, log_file, texts, broken)

    def refuse_broken(self) -> None:
        """Raise what is wrong with the config file, if anything is."""
        if self.broken is not None:
            raise self.broken

    def home(self) -> Home:
        """What every job here starts from."""
        return Home(self.data, ((f"file {self.config_path}", self.tables),), self.models)

    def default_map(self) -> dict[str, Any]:
        """The file's option values as Click wants them: for every command and subcommand alike."""
        return _Everywhere(self.options)


class _Everywhere(dict[str, Any]):
    """A default map that answers every subcommand's name with itself."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, default if key in OPTIONS else self)


def go_online() -> None:
    """Let the Hub's client on the network, for the one command that is there for it."""
    os.environ["HF_HUB_OFFLINE"] = "0"


def set_brief_waits() -> None:
    """Let the engines' threads wait briefly for each other, unless the environment says how long.

    OpenMP reads this when it is loaded, so it must be set before any engine is.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def _read_or_broken(path: Path) -> tuple[dict[str, Any], dict[str, Any], SgError | None]:
    try:
        return (*read_config(path), None)
    except SgError as error:
        return {}, {}, error


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A config file's option values and its tables of stage settings. No file: both empty. SgError for a broken one."""
    if not os.path.lexists(path):
        return {}, {}
    from sg_local.reading import read_toml

    data = read_toml(path, "Fix or delete this line.")
    wrong = [key for key, value in data.items() if not isinstance(value, (str, int, dict)) or isinstance(value, bool)]
    if wrong:
        raise SgError(f"{path}: {wrong[0]} must be a text or a whole number.", "Fix or delete it.", exit_code=2)
    options = {key: str(value) for key, value in data.items() if not isinstance(value, dict)}
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        hint = f"It may set {', '.join(OPTIONS)}, and stage settings in tables such as [synth]."
        raise SgError(f"{path}: unknown key {unknown[0]!r}.", hint, exit_code=2)
    return options, {key: value for key, value in data.items() if isinstance(value, dict)}
