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
from sg_local.serve.ensemble import Ensemble
from sg_local.serve.worker import Order, Worker

__all__ = [
    "Answerer",
    "Ensemble",
    "Likeliest",
    "Order",
    "Question",
    "RowAnswer",
    "ServeSettings",
    "Service",
    "Voted",
    "Way",
    "Worker",
    "Written",
    "answer_rows",
    "label_scores",
    "predict",
    "serve",
]


def serve(
    generator: Generator, service: Service, settings: ServeSettings, on_ready: Callable[[str], None] | None = None
) -> None:
    """Answer requests until Ctrl-C; the generator is left open. `on_ready` is given the URL once it listens.

    SgError when the HTTP packages are missing, the port is taken, or the address is not loopback and
    `allow_remote` is off.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise SgError(f"Serving needs the package {missing[0]!r}.", "Install it with: pip install 'sg-local[serve]'")
    from sg_local.serve.app import listen

    listen(generator, service, settings, on_ready)
