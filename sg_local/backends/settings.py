"""How engines run: the settings of both protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EngineSettings:
    """How a generator runs. None means: chosen by the backend from the model and the machine.

    `n_ctx` is the context of one sequence in tokens; `n_parallel` the number of sequences decoded together. With
    `n_threads` None as many threads compute as neighbours leave processors for. `fast_copy` lets the backend keep the
    same weights in a format that this machine computes faster, in `cache` (None: the user's cache folder). `format`
    names what shall run, `as given` or a copy's format, where rows are to come out as they did elsewhere.
    `n_replicas` contexts compute side by side, each with a share of the threads and its own part of the prompts.
    `endpoint` is the address of an OpenAI-compatible server, for the backend that asks one; `endpoint_model` the
    base's name there, and `endpoint_timeout_s` the time of one request.
    """

    n_ctx: int = 2048
    n_parallel: int | None = None
    n_threads: int | None = None
    fast_copy: bool = True
    gpu_layers: int = -1
    cache: Path | None = None
    format: str | None = None
    n_replicas: int | None = None
    endpoint: str = ""
    endpoint_model: str = ""
    endpoint_timeout_s: float = 300.0


@dataclass(frozen=True)
class Beside:
    """llama.cpp on this machine beside a server that is asked: its settings, and who hears that it has opened."""

    settings: EngineSettings
    opened: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class TrainSettings:
    """LoRA finetuning. `alpha / rank` scales the adapter, which goes into the last `n_layers` layers; None: into a
    `layer_share` of them, rounded up.

    `warmup` is a share of all steps; `patience` counts validation rounds without gain before an early stop (0: never);
    `share_prefix` computes what all rows begin with once per step; `layout` is one of prompts.LAYOUTS, `precision` one
    of `training.precision.PRECISIONS`; `shown` holds how many demonstrations rows show, in turn, the last of which is
    for use (prompts.shown). `generations` trainings in a row share `epochs`, each on labels of the one before;
    `soft` is the share of a label's target that the scores on the row decide, 0 to 1; `n_seeds` adapters make their
    mean (training.averaging). With `lr_by_width` a model narrower than a 7B gets a higher rate than `lr`
    (training.rates). `policies` are label policies whose rows are tried beside the filters' own, a training each.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    lr: float = 2e-4
    epochs: float = 3.0
    batch_size: int = 8
    grad_accumulation: int = 1
    schedule: str = "linear"
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    n_layers: int | None = None
    layer_share: float = 1.0
    patience: int = 0
    valid_every: int = 10
    checkpoint_every: int = 10
    share_prefix: bool = True
    layout: str = "lead"
    shown: tuple[str, ...] = ("all",)
    generations: int = 1
    soft: float = 0.0
    n_seeds: int = 1
    lr_by_width: bool = False
    policies: tuple[str, ...] = ()
    time_s: float | None = None
    seed: int = 0
    n_threads: int | None = None
    precision: str = "auto"
