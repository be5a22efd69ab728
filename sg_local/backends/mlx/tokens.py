"""llama.cpp's tokenizer for the MLX generator: the GGUF's vocabulary alone is loaded, no weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import llama_cpp as lib

from sg_local.backends.llama_cpp.model import check_file, describe, load_vocabulary
from sg_local.backends.llama_cpp.trial import Trial, check_survives
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.files import file_digest
from sg_local.gguf import read_config
from sg_local.home import cache_folder
from sg_local.records import ModelInfo


class Tokens:
    """A GGUF's vocabulary, open until `close`, and the file as records know it."""

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        facts = check_file(path)
        context = read_config(path).context
        folder = cache_folder(cache)
        check_survives(Trial(path, folder, vocab_only=True))
        self._model: object | None = load_vocabulary(path)
        self.vocab: Vocab = Vocab(self._model)
        digest = file_digest(path, folder) or ""
        info = describe(path, facts, self.vocab, self._model, digest)
        self.info: ModelInfo = dataclasses.replace(info, n_ctx_train=context)

    def close(self) -> None:
        """Free the vocabulary. Closing twice is fine."""
        if self._model is not None:
            lib.llama_model_free(self._model)
            self._model = None
