"""The base's vocabulary, read from its GGUF without the weights: every token that is counted, sent or trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import llama_cpp as lib

from sg_local.backends.llama_cpp.model import check_file, describe, load_vocabulary
from sg_local.backends.llama_cpp.trial import Trial, check_survives
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.files import file_digest
from sg_local.gguf import check_model
from sg_local.records import ScoredPrompt, Segments


class Vocabulary:
    """Tokenises as every generator here. Close it when done."""

    def __init__(self, model: Path, cache: Path) -> None:
        facts = check_file(model)
        check_survives(Trial(model, cache, vocab_only=True))
        self._loaded: object | None = load_vocabulary(model)
        self._vocab = Vocab(self._loaded)
        info = describe(model, facts, self._vocab, self._loaded, file_digest(model, cache) or "")
        self.info = replace(info, n_ctx_train=check_model(model).context)  # a vocabulary alone does not know it
        self.ends = sorted(id for id in self._vocab.ends if id >= 0)

    def tokenize(self, segments: Segments, *, bos: bool = True) -> list[int]:
        """Token ids; special strings count only in trusted segments."""
        return self._vocab.tokenize(segments, bos=bos)

    def prompt(self, segments: Segments) -> list[int]:
        """A prompt's ids, at least one: where nothing stands in it, the beginning or the end of what came before."""
        found = self.tokenize(segments)
        return found or [self._vocab.bos if self._vocab.bos >= 0 else self._vocab.eos]

    def continuations(self, prompt: ScoredPrompt, tokens: list[int]) -> list[list[int]]:
        """The ids of each continuation behind a prompt's, with the token that ends an answer where it is asked for."""
        end = [self._vocab.end(prompt.ending)] if prompt.end else []
        return [self._vocab.continuation(prompt.segments, tokens, text) + end for text in prompt.continuations]

    def ending(self, prompt: ScoredPrompt) -> str:
        """The special string that stands for the end of an answer; empty where none is asked for."""
        return self._vocab.text_of(self._vocab.end(prompt.ending)) if prompt.end else ""

    def close(self) -> None:
        """Free it. Closing twice is fine."""
        if self._loaded is not None:
            lib.llama_model_free(self._loaded)
            self._loaded = None
