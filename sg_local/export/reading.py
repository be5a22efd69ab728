"""Reads a model folder with the library it is meant for: run as `python -m sg_local.export.reading`, request on stdin.

Token ids come with the request, so that tokenizers are none of this module's business; only answers are decoded, by
the folder's own. Every finding is a line of JSON on stdout as soon as it is there: what was found before the time was
up, or before the process died, still counts. The arithmetic is float32 on a CPU, whatever the folder stores, and the
folder's float16 on Apple's GPU, which nobody has tried.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sg_local.home import stay_offline
from sg_local.records import from_dict

CHUNK = 256  # tokens of the shared beginning read at a time
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Ask:
    """A prompt and what follows it: token ids, `answer` with its end; `text` is the answer as it reads."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    text: str = ""


@dataclass(frozen=True)
class Request:
    """What to find out about a folder of `kind` hf or mlx.

    The loss of `rows`, whether `asked` get the same greedy answers, and first of all how it answers `hello`. An answer
    ends with a token of `ends`, before a string of `stops`, or after `budget` tokens.
    """

    kind: str
    folder: str
    hello: Ask
    rows: tuple[Ask, ...]
    asked: tuple[Ask, ...]
    ends: tuple[int, ...]
    stops: tuple[str, ...]
    budget: int


class Reader(Protocol):
    """A loaded model. A state is what it has read so far."""

    def start(self) -> Any:
        """The state before any token."""
        ...

    def read(self, state: Any, tokens: Sequence[int], n_last: int) -> np.ndarray:
        """Read on, changing the state; logits (n_last, vocabulary) behind the last tokens."""
        ...


class TransformersReader:
    """transformers' AutoModelForCausalLM on the CPU."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    def start(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache()

    def read(self, state: Any, tokens: Sequence[int], n_last: int) -> np.ndarray:
        ids = self._torch.tensor([list(tokens)])
        with self._torch.no_grad():
            logits = self._model(ids, past_key_values=state, use_cache=True, logits_to_keep=n_last).logits
        found: np.ndarray = logits[0].numpy()
        return found


class MlxReader:
    """What mlx_lm.load gives."""

    def __init__(self, folder: str) -> None:
        from sg_local.backends.mlx.blas import prefer_openblas

        prefer_openblas()
        import mlx.core as mx
        import mlx_lm

        self._mx = mx
        self._model = mlx_lm.load(folder)[0]
        if not mx.metal.is_available():
            self._model.set_dtype(mx.float32)

    def start(self) -> Any:
        from mlx_lm.models.cache import make_prompt_cache

        return make_prompt_cache(self._model)

    def read(self, state: Any, tokens: Sequence[int], n_last: int) -> np.ndarray:
        logits = self._model(self._mx.array([list(tokens)]), cache=state)[0, -n_last:]
        return np.array(logits.astype(self._mx.float32))


READERS: Mapping[str, Callable[[str], Reader]] = {"hf": TransformersReader, "mlx": MlxReader}


class Desk:
    """Scores and answers; what all prompts begin with is read once."""

    def __init__(self, reader: Reader, request: Request) -> None:
        from tokenizers import Tokenizer

        self._reader, self._request = reader, request
        self._tokenizer = Tokenizer.from_file(str(Path(request.folder) / "tokenizer.json"))
        prompts = [ask.prompt for ask in (request.hello, *request.rows, *request.asked)]
        self._n_shared = shared_length(prompts)
        self._state = reader.start()
        for start in range(0, self._n_shared, CHUNK):
            reader.read(self._state, prompts[0][start : min(start + CHUNK, self._n_shared)], 1)

    def logits(self, ask: Ask) -> np.ndarray:
        """What the model thinks at each token of the answer: (tokens of the answer, vocabulary)."""
        rest = [*ask.prompt[self._n_shared :], *ask.answer[:-1]]
        return self._reader.read(copy.deepcopy(self._state), rest, len(ask.answer))

    def logprob(self, ask: Ask) -> float:
        """log P(answer | prompt) in nats."""
        return float(log_probabilities(self.logits(ask), ask.answer).sum())

    def answer(self, prompt: Sequence[int]) -> str:
        """The greedy answer, trimmed."""
        state, text = copy.deepcopy(self._state), ""
        tokens: list[int] = []
        logits = self._reader.read(state, prompt[self._n_shared :], 1)
        while len(tokens) < self._request.budget:
            token = int(logits[-1].argmax())
            if token in self._request.ends:
                break
            tokens.append(token)
            text = self._tokenizer.decode(tokens, skip_special_tokens=True)
            cuts = [text.index(stop) for stop in self._request.stops if stop in text]
            if cuts:
                text = text[: min(cuts)]
                break
            logits = self._reader.read(state, [token], 1)
        return text.strip()

    def compare(self, ask: Ask) -> dict[str, Any]:
        """Whether the greedy answer is the one wanted, and the nats by which its first other token won."""
        logits = self.logits(ask)
        best = logits.argmax(axis=1)
        if (best == np.array(ask.answer)).all():
            return {"equal": True, "missed_by": 0.0}
        at = int((best != np.array(ask.answer)).argmax())
        missed_by = float(logits[at, best[at]] - logits[at, ask.answer[at]])
        return {"equal": self.answer(ask.prompt) == ask.text, "missed_by": missed_by}


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all the prompts begin with, one short of the shortest at most."""
    # What the first and the last share in the order of a dictionary, all share.
    first, last = (pick(map(tuple, prompts)) for pick in (min, max))
    limit = min(map(len, prompts)) - 1
    differ = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return max(0, min(limit, next(differ, limit)))


def log_probabilities(logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """log P of one token under each row of logits."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    totals = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    found: np.ndarray = wide[np.arange(len(tokens)), list(tokens)] - totals
    return found


def findings(request: Request) -> Iterator[dict[str, Any]]:
    """The first answer, the rows' log-probabilities, then one comparison after the other."""
    desk = Desk(READERS[request.kind](request.folder), request)
    yield {"text": desk.answer(request.hello.prompt)}
    if request.rows:
        yield {"logprobs": [desk.logprob(ask) for ask in request.rows]}
    for ask in request.asked:
        yield desk.compare(ask)


def main() -> int:
    """Exit status 0 once everything is found."""
    stay_offline()
    for finding in findings(from_dict(Request, json.load(sys.stdin))):
        print(json.dumps(finding), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
