"""The tuned task in use: `answer_rows` for many inputs, `serve` behind an OpenAI-compatible endpoint on loopback.

The HTTP packages are imported only by `serve`, so that `predict` works without the `serve` extra.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from sg_local.backends import Generator
from sg_local.records import SgError
from sg_local.serve.answers import ServeSettings, Service
from sg_local.serve.batch import (
    Answerer,
    Likeliest,
    Question,
    RowAnswer,
    Voted,
    Way,
    Written,
    answer_rows,
    label_scores,
    predict,
)
from sg_local.serve.door import Door, Setup
from sg_local.serve.ensemble import Ensemble, Labeller
from sg_local.serve.limits import Limits
from sg_local.serve.registry import Registry, Source
from sg_local.serve.worker import Order, Worker

__all__ = [
    "Answerer",
    "Door",
    "Ensemble",
    "Labeller",
    "Likeliest",
    "Limits",
    "Order",
    "Question",
    "Registry",
    "RowAnswer",
    "ServeSettings",
    "Service",
    "Setup",
    "Source",
    "Voted",
    "Way",
    "Worker",
    "Written",
    "answer_rows",
    "check_packages",
    "label_scores",
    "predict",
    "serve",
]


def serve(
    generator: Generator, registry: Registry, setup: Setup, on_ready: Callable[[str], None] | None = None
) -> None:
    """Answer requests until Ctrl-C or SIGTERM; the generator is left open. `on_ready` is given the URL once it listens.

    SgError when the port is taken, and when the address is not loopback and
    that is not allowed or there is no key.
    """
    from sg_local.serve.listen import listen

    listen(generator, registry, setup, on_ready)


def check_packages() -> None:
    """SgError when the HTTP packages are missing."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise SgError(f"Serving needs the package {missing[0]!r}.", "Install it with: pip install 'sg-local[serve]'")
