"""llama.cpp's tokenizer for the MLX generator: the GGUF's vocabulary alone is loaded, no weights."""

from __future__ import annotations

import dataclasses
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.gguf import read_config
from sg_local.records import ModelInfo, SgError

if TYPE_CHECKING:
    from sg_local.backends.llama_cpp.vocab import Vocab


class Tokens:
    """A GGUF's vocabulary, open until `close`, and the file as records know it."""

    def __init__(self, path: Path) -> None:
        if find_spec("llama_cpp") is None:
            message = "The MLX generator needs llama-cpp-python for its tokenizer, which is not installed."
            raise SgError(message, "Install it with: pip install 'sg-local[llama,mlx]'")
        from sg_local.backends.llama_cpp import cache_folder
        from sg_local.backends.llama_cpp.model import check_file, describe, file_digest
        from sg_local.backends.llama_cpp.vocab import Vocab

        facts = check_file(path)
        context = read_config(path).context
        self._model: object | None = _load_vocabulary(path)
        self.vocab: Vocab = Vocab(self._model)
        info = describe(path, facts, self.vocab, self._model, file_digest(path, cache_folder()))
        self.info: ModelInfo = dataclasses.replace(info, n_ctx_train=context)

    def close(self) -> None:
        """Free the vocabulary. Closing twice is fine."""
        if self._model is not None:
            import llama_cpp as lib

            lib.llama_model_free(self._model)
            self._model = None


def _load_vocabulary(path: Path) -> object:
    import llama_cpp as lib

    from sg_local.backends.llama_cpp.library import log

    params = lib.llama_model_default_params()
    params.vocab_only = True
    log().clear()
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise SgError(f"llama.cpp cannot read the vocabulary of {path}: {log().last()}.", "Is the file whole?")
    return model
