"""A deterministic fake of both protocols: for tests, and for trying the interface without weights.

The generator answers from the prompt's text and seed alone, so the same prompt and seed give the same text in any
order and batch. Asked for a new input it writes a made-up sentence; asked for an answer it names a label that
the prompt mentions, or repeats the input in lower case. The trainer counts steps down a made-up loss curve and
writes a placeholder under the adapter's name. Nothing here says anything about quality.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sg_local.backends import EngineSettings, TrainSettings
from sg_local.files import file_digest
from sg_local.records import (
    Adapter,
    Completion,
    ModelInfo,
    Prompt,
    Score,
    ScoredPrompt,
    Segments,
    TokenExample,
    TrainStep,
)

WORDS = [
    "the",
    "order",
    "parcel",
    "invoice",
    "app",
    "screen",
    "payment",
    "courier",
    "login",
    "refund",
    "street",
    "button",
    "card",
    "box",
    "message",
    "price",
    "address",
    "still",
    "not",
    "arrived",
    "works",
    "twice",
    "today",
    "since",
    "yesterday",
    "morning",
    "please",
    "help",
    "why",
    "when",
    "where",
    "my",
    "your",
    "was",
    "is",
    "has",
    "been",
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_FILE = hashlib.sha256(b"scripted").hexdigest()  # stands for the digest of a base that is a name alone
Reply = Callable[[str, random.Random], str]


def sentence(rng: random.Random) -> str:
    """A made-up sentence of 6 to 12 words."""
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(6, 12)))
    return text.capitalize() + "."


def default_reply(prompt: str, rng: random.Random) -> str:
    """A new input or output where the prompt ends by asking for one, else an output that was shown, else the input."""
    if prompt.endswith("\n\nOutput:"):
        return sentence(rng)
    if re.search(r"input:\s*$", prompt, re.IGNORECASE):
        return sentence(rng)
    shown = re.findall(r"(?:Output:[ \n]?|assistant\n)(.+?)(?:<\|im_end\|>)?\n", prompt)
    return rng.choice(shown) if shown else sentence(rng)


class ScriptedGenerator:
    """Answers by a function of (prompt text, generator seeded by the prompt's seed)."""

    def __init__(self, model: Path, reply: Reply = default_reply) -> None:
        self.reply = reply
        self.adapter: Path | None = None
        self._busy = False
        self.asked: list[Prompt] = []
        self.info = ModelInfo(
            name=model.stem or "scripted",
            path=str(model),
            digest=file_digest(model) or NO_FILE,
            size_bytes=model.stat().st_size if model.is_file() else 0,
            architecture="llama",
            n_ctx_train=2048,
            chat_template=TEMPLATE,
            bos="",
            eos="<|im_end|>",
            add_bos=False,
        )

    def tokenize(self, segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
        """One token for each word or other character."""
        pieces = re.findall(r"\w+|\W", _text(segments))
        return tuple(int.from_bytes(hashlib.sha256(p.encode()).digest()[:2], "big") for p in pieces)

    def generate(self, prompts: Iterable[Prompt | None]) -> Iterator[Completion]:
        """Replies in the order asked."""
        with self._alone():
            for prompt in filter(None, prompts):
                self.asked.append(prompt)
                text = self.reply(_text(prompt.segments), random.Random(prompt.seed))
                for stop in prompt.sampling.stop:
                    text = text.split(stop)[0]
                n_tokens = len(text.split())
                n_prompt = len(self.tokenize(prompt.segments))
                yield Completion(prompt.id, text, "stop", n_prompt, n_tokens, -0.5 * n_tokens)

    def score(self, prompts: Iterable[ScoredPrompt]) -> Iterator[Score]:
        """A made-up figure in [-5, 0) from prompt and continuation."""
        with self._alone():
            for prompt in prompts:
                text = _text(prompt.segments)
                yield Score(prompt.id, tuple(_figure(text + choice) for choice in prompt.continuations))

    def use_adapter(self, path: Path | None) -> None:
        self.adapter = path

    def close(self) -> None:
        """Nothing to release."""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One call at a time, as engines with one pool have it."""
        assert not self._busy, "one generate or score at a time"
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


class ScriptedTrainer:
    """Reports a falling loss and writes a placeholder adapter that names the rows it was given."""

    note = "scripted, nothing is trained"

    def __init__(self, model: Path) -> None:
        self.model = model

    def train(
        self,
        examples: Sequence[TokenExample],
        valid: Sequence[TokenExample],
        out: Path,
        settings: TrainSettings,
        on_step: Callable[[TrainStep], None],
    ) -> Adapter:
        """Count through the steps that the settings ask for."""
        n_steps = max(1, round(settings.epochs * len(examples) / settings.batch_size))
        for step in range(1, n_steps + 1):
            loss = 3.0 / (1 + step)
            on_step(TrainStep(step, n_steps, step / n_steps * settings.epochs, loss, settings.lr, 1000.0, 0, loss))
        out.mkdir(parents=True, exist_ok=True)
        path = out / "adapter.gguf"
        path.write_text("scripted adapter\n" + "\n".join(example.id for example in examples), encoding="utf-8")
        base, found = file_digest(self.model) or NO_FILE, file_digest(path) or ""
        loss = 3.0 / (1 + n_steps)
        return Adapter(str(path), found, base, settings.rank, settings.alpha, "scripted", n_steps, n_steps, loss, loss)


def open_generator(model: Path, settings: EngineSettings) -> ScriptedGenerator:
    """A generator with the default replies; the settings change nothing."""
    return ScriptedGenerator(model)


def open_trainer(model: Path) -> ScriptedTrainer:
    """A trainer that trains nothing."""
    return ScriptedTrainer(model)


def _text(segments: Segments) -> str:
    return "".join(segment.text for segment in segments)


def _figure(text: str) -> float:
    return -5.0 * int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
