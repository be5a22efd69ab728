"""What many prompts begin with: its keys and values, computed once and handed to every row that starts with it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from sg_local.backends.llama_cpp.prefix import WORTH_TOKENS, common_length, shared_length
from sg_local.backends.mlx.forward import KeysValues
from sg_local.backends.mlx.model import Model

_STEP = 512  # prompt tokens computed at a time: bounds the memory of attention scores


class MlxPrefix:
    """One beginning and its cache. It outlives a call, so that the next one with the same beginning starts there."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tokens: list[int] = []
        self._caches: list[KVCache] = model.make_cache()

    def __len__(self) -> int:
        return len(self._tokens)

    def cover(self, prompts: Sequence[Sequence[int]]) -> None:
        """Compute what all the prompts share, less a last token for each, where that saves enough."""
        shared = shared_length(prompts)
        wanted = list(prompts[0][:shared])
        kept = common_length(self._tokens, wanted, shared)
        if (shared - kept) * (len(prompts) - 1) < WORTH_TOKENS:
            return
        for cache in self._caches:
            cache.trim(len(self._tokens) - kept)
        for start in range(kept, shared, _STEP):
            self._model(mx.array([wanted[start : min(start + _STEP, shared)]]), cache=self._caches)
            mx.eval([cache.state for cache in self._caches])
        self._tokens = wanted

    def common(self, tokens: Sequence[int]) -> int:
        """How many of these tokens are computed already; at least the last one is not counted."""
        return common_length(self._tokens, tokens, len(tokens) - 1)

    def caches(self, n_tokens: int) -> list[KVCache]:
        """The first tokens' caches, the caller's to fill on. mx arrays share their memory until written to."""
        caches = copy.deepcopy(self._caches) if n_tokens else self._model.make_cache()
        for cache in caches if n_tokens else ():
            cache.trim(len(self._tokens) - n_tokens)
        return caches

    def past(self, n_tokens: int) -> list[KeysValues | None]:
        """The first tokens' keys and values, layer by layer, as `forward.run_layers` takes them."""
        if not n_tokens:
            return [None] * len(self._caches)
        return [_first(cache, n_tokens) for cache in self._caches]

    def clear(self) -> None:
        """Forget everything, as an exchanged adapter demands."""
        self._tokens, self._caches = [], self._model.make_cache()


def _first(cache: KVCache, n_tokens: int) -> KeysValues:
    assert cache.keys is not None and cache.values is not None, "a prefix was computed"
    return cache.keys[..., :n_tokens, :], cache.values[..., :n_tokens, :]
