"""A model's tokenizer alone, without its weights: for checks that come before any engine is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sg_local.records import Segments


@contextlib.contextmanager
def tokenizer(model: Path, cache: Path) -> Iterator[Callable[..., tuple[int, ...]]]:
    """A function from segments to token ids, as `tokenize` of every generator here.

    Raises SgError for a vocabulary that llama.cpp cannot read or does not survive.
    """
    import llama_cpp

    from sg_local.backends.llama_cpp.model import check_file, load_vocabulary
    from sg_local.backends.llama_cpp.trial import Trial, check_survives
    from sg_local.backends.llama_cpp.vocab import Vocab

    check_file(model)
    check_survives(Trial(model, cache, vocab_only=True))
    loaded = load_vocabulary(model)
    try:
        vocab = Vocab(loaded)

        def tokenize(segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
            return tuple(vocab.tokenize(segments, bos=bos))

        yield tokenize
    finally:
        llama_cpp.llama_model_free(loaded)
