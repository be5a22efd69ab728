"""The two engine protocols, their settings, and how to open one by name without importing the others.

A Generator writes and scores text; a Trainer turns token examples into an adapter GGUF. Engines are imported
only inside `open_generator` and `open_trainer`, so that the command line starts without any of them. The module is
longer than most: what an engine promises and how one is found are read together by whoever adds another.
"""

from __future__ import annotations

import importlib
import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from sg_local.backends.openai.address import HERE, Access
from sg_local.backends.settings import Beside as Beside
from sg_local.backends.settings import EngineSettings as EngineSettings
from sg_local.backends.settings import TrainSettings as TrainSettings
from sg_local.records import (
    Adapter,
    Completion,
    ModelInfo,
    Prompt,
    Score,
    ScoredPrompt,
    Segments,
    SgError,
    TokenExample,
    TrainStep,
)

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Generator(Protocol):
    """Writes and scores text with one model and, optionally, one adapter."""

    info: ModelInfo

    def tokenize(self, segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
        """Token ids as llama.cpp gives them; special strings count only in trusted segments.

        `bos` prepends the beginning-of-sequence token where the model's metadata asks for it.
        """
        ...

    def generate(self, prompts: Iterable[Prompt | None]) -> Iterator[Completion]:
        """One completion per prompt, as each one ends: in any order. A prompt beyond the context raises SgError.

        None among the prompts means: no more for now; go on with those under way and ask again at the next step.
        A server's prompts come like that.
        """
        ...

    def score(self, prompts: Iterable[ScoredPrompt]) -> Iterator[Score]:
        """One score per prompt, in any order."""
        ...

    def use_adapter(self, path: Path | None) -> None:
        """Answer with this adapter GGUF from now on; None goes back to the base. Caches are dropped."""
        ...

    def close(self) -> None: ...


class Inputs(Protocol):
    """What flows into a model's matrices while a generator computes."""

    def means(self) -> Mapping[str, np.ndarray]:
        """The mean square of each input so far, float32 (columns,), by the matrix's name in the file."""
        ...


class Trainer(Protocol):
    """Trains a LoRA adapter on one base GGUF. `out` is a folder that may hold checkpoints of an earlier try.

    `note` says for people what it computes on.
    """

    note: str

    def train(
        self,
        examples: Sequence[TokenExample],
        valid: Sequence[TokenExample],
        out: Path,
        settings: TrainSettings,
        on_step: Callable[[TrainStep], None],
    ) -> Adapter:
        """Train, resume from `out` where it holds a checkpoint of the same work, and write `out/adapter.gguf`."""
        ...


def available(source: Iterator[T | None], limit: int) -> Iterator[T]:
    """At most `limit` items of a stream of prompts, up to the first None."""
    for item in islice(source, limit):
        if item is None:
            return
        yield item


@dataclass(frozen=True)
class Backend:
    """What a backend can do, where it lives, and what a user installs to have it.

    `packages` maps the packages that it imports to their names on PyPI, the compiled one first; `probe` is a line of
    Python that says, in a process of its own, what it computes on. `use` tells people what it is for.
    """

    module: str
    generates: bool = False
    trains: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    probe: str = ""
    use: str = ""
    needs_model: bool = True
    """A model file must be there. Without: the backend makes do with a name."""
    makes_weights: bool = True
    """Training leaves an adapter GGUF that the exports can merge. Without: a placeholder."""
    own_trainer: str | None = None
    """The trainer that `auto` takes beside this generator; None: the machine decides."""
    offered: bool = True
    """Named in menus and help."""
    asks: bool = False
    """It works by asking a server, whose address it needs."""
    watches: bool = False
    """It can tell what flows into a model's matrices (`open_watched`)."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The packages that it imports."""
        return tuple(self.packages)


BACKENDS: Mapping[str, Backend] = {
    "llama.cpp": Backend(
        module="sg_local.backends.llama_cpp",
        generates=True,
        packages={"llama_cpp": "llama-cpp-python"},
        extra="llama",
        probe="import llama_cpp; print('GPU offload' if llama_cpp.llama_supports_gpu_offload() else 'CPU')",
        use="generates and scores text; needed by every job",
        watches=True,
    ),
    "torch": Backend(
        module="sg_local.backends.torch",
        trains=True,
        packages={"torch": "torch", "transformers": "transformers", "peft": "peft"},
        extra="torch",
        probe="import torch; print('CUDA' if torch.cuda.is_available() else 'CPU')",
        use="trains, on CUDA or the CPU",
    ),
    "mlx": Backend(
        module="sg_local.backends.mlx",
        generates=True,
        trains=True,
        packages={"mlx": "mlx", "mlx_lm": "mlx-lm"},
        extra="mlx",
        probe="import mlx.core as mx; print('Metal' if mx.metal.is_available() else 'CPU')",
        use="trains on Apple Silicon; works on other CPUs too",
    ),
    "openai": Backend(
        module="sg_local.backends.openai",
        generates=True,
        packages={"llama_cpp": "llama-cpp-python"},
        extra="llama",
        probe="import llama_cpp; print('asks a server')",
        use="generates on a server: vLLM, llama-server, sg-local on another machine",
        asks=True,
    ),
    "scripted": Backend(
        module="sg_local.backends.scripted",
        generates=True,
        trains=True,
        use="answers by rule, for tests and for trying the interface",
        needs_model=False,
        makes_weights=False,
        own_trainer="scripted",
        offered=False,
    ),
}
"""The one table of backends, in the order in which they are shown."""

GENERATORS = {name: backend for name, backend in BACKENDS.items() if backend.generates}
TRAINERS = {name: backend for name, backend in BACKENDS.items() if backend.trains}


def choices(table: Mapping[str, Backend]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What may be given for a table's backend: `auto` and the names that people are offered, and the others."""
    offered = tuple(name for name, backend in table.items() if backend.offered)
    return ("auto", *offered), tuple(name for name in table if name not in offered)


def needs_model(generator: str) -> bool:
    """Whether this generator works on a model file; a name alone is enough for one that does not."""
    backend = BACKENDS.get(choose_generator(generator))
    return backend is None or backend.needs_model


def asks_server(generator: str) -> bool:
    """Whether this generator lets a server write."""
    backend = BACKENDS.get(choose_generator(generator))
    return backend is not None and backend.asks


def engine_here(generator: str) -> str:
    """The generator that computes on this machine where this one lets a server write."""
    return choose_generator() if asks_server(generator) else generator


def makes_weights(trainer: str) -> bool:
    """Whether this trainer leaves an adapter that can be merged and exported; not so the scripted one's."""
    backend = BACKENDS.get(trainer)
    return backend is None or backend.makes_weights


def on_apple_silicon() -> bool:
    """True on a Mac with an Apple chip, the only place where MLX has a GPU."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def is_installed(backend: Backend) -> bool:
    """True when every package that the backend imports can be found."""
    return all(find_spec(name) is not None for name in backend.needs)


def choose_generator(name: str = "auto") -> str:
    """The generator's name with `auto` decided: llama.cpp everywhere, since its tokens are canonical."""
    return "llama.cpp" if name == "auto" else name


def choose_trainer(name: str = "auto", generator: str = "auto") -> str:
    """The trainer's name with `auto` decided: MLX on Apple Silicon where installed, torch elsewhere.

    A generator that has a trainer of its own brings it along.
    """
    if name != "auto":
        return name
    beside = GENERATORS.get(choose_generator(generator))
    if beside is not None and beside.own_trainer is not None:
        return beside.own_trainer
    if on_apple_silicon() and is_installed(TRAINERS["mlx"]):
        return "mlx"
    if not is_installed(TRAINERS["torch"]) and is_installed(TRAINERS["mlx"]):
        return "mlx"
    return "torch"


def open_generator(
    name: str,
    model: Path,
    settings: EngineSettings | None = None,
    access: Access = HERE,
    beside: Beside | None = None,
) -> Generator:
    """Load a model for writing and scoring. Raises SgError for a missing engine or an unfit file.

    For a backend that asks a server, `access` says whom it may ask, and `beside` how it answers here what that cannot.
    """
    from sg_local.backends import wire

    chosen = choose_generator(name)
    backend = find_backend(GENERATORS, chosen, "backend")
    module = importlib.import_module(backend.module)
    logger.info("generator %s%s on %s", chosen, " (auto)" if name == "auto" else "", model.name)
    more = (access, beside) if backend.asks else ()
    generator: Generator = module.open_generator(model, settings or EngineSettings(), *more)
    return wire.Wire(generator) if wire.is_open() else generator


def watches(generator: str) -> bool:
    """Whether this generator can tell what flows into a model's matrices."""
    backend = BACKENDS.get(choose_generator(generator))
    return backend is not None and backend.watches


def open_watched(name: str, model: Path, settings: EngineSettings) -> tuple[Generator, Inputs]:
    """A generator on a model that `watches`, and what flows into the model's matrices from now on."""
    module = importlib.import_module(find_backend(GENERATORS, choose_generator(name), "backend").module)
    opened: tuple[Generator, Inputs] = module.open_watched(model, settings)
    return opened


def open_trainer(name: str, model: Path) -> Trainer:
    """A trainer bound to one base GGUF. Raises SgError for a missing engine or an unfit file."""
    chosen = choose_trainer(name)
    module = importlib.import_module(find_backend(TRAINERS, chosen, "trainer").module)
    trainer: Trainer = module.open_trainer(model)
    logger.info("trainer %s%s on %s: %s", chosen, " (auto)" if name == "auto" else "", model.name, trainer.note)
    return trainer


def find_backend(table: Mapping[str, Backend], name: str, option: str) -> Backend:
    """The backend of this name. Raises SgError for one that is not known or not installed; imports none."""
    backend = table.get(name)
    if backend is None:
        hint = f"`{option}` takes one of: {', '.join(table)}."
        raise SgError(f"There is no backend named {name!r}.", hint, exit_code=2)
    if not is_installed(backend):
        missing = next(need for need in backend.needs if find_spec(need) is None)
        raise SgError(
            f"The {name} backend needs the package {missing!r}, which is not installed.",
            f"Install it with: pip install 'sg-local[{backend.extra}]'",
        )
    return backend
