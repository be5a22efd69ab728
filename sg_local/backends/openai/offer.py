"""What an endpoint offers, asked once with requests of one token each: its model, its tokens, its log-probabilities.

A server may take a field and ignore it, run another model under the right name, or tell log-probabilities of the wrong
tokens. So what decides rows is tried: a text with odd characters must have the tokens of the base's own vocabulary, and
a token that was just written must have the same probability when it is echoed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sg_local.backends.openai.asks import (
    NEUTRAL,
    Echoed,
    Misread,
    Sent,
    choice_of,
    count_of,
    echo_body,
    logprobs_of,
    next_of,
    tokens_of,
    written_body,
)
from sg_local.backends.openai.calls import Caller, Patience, Refused, Unanswered
from sg_local.backends.openai.speech import Speech
from sg_local.backends.openai.vocabulary import Vocabulary
from sg_local.records import Sampling, Segment, SgError
from sg_local.words import brief, shown

logger = logging.getLogger(__name__)

PROBE = "Na\u00efve caf\u00e9s,  1234 don't\n\u6771\u4eac \U0001f642 x_y ()"
ONE = Sampling(temperature=0.0, max_tokens=1)
EXTRAS = ("top_k", "logprobs", "stop_token_ids", *NEUTRAL)
CAT = "The cat sat on the"
N_NEXT, FEWEST_NEXT, MOST_NEXT = 20, 2, 5
"""Likeliest next tokens that are asked for, and how many of those that stay whole behind the text are looked at."""

MOST_ALIKE = 0.6
"""Share of them that must be told alike: a text may stand for two tokens, such as a byte's and a letter's."""

NEAR = 0.5
"""Nats by which a token's probability may differ between two ways to compute it; another token's differs by more."""

SOON = Patience(tries=3)
OUR_BASE = "base"
INTERNAL = 500


@dataclass(frozen=True)
class Offer:
    """What was found. `fields` are those that requests may hold beyond OpenAI's.

    `takes_ids` and `reads_specials` say how prompts are read. `skipped` is how many of a prompt's first tokens an echo
    leaves out; None where it offers no scores. `counts` says who confirmed that its tokens are the base's.
    """

    model: str
    takes_ids: bool
    reads_specials: bool
    fields: frozenset[str]
    skipped: int | None
    counts: str
    n_ctx: int | None = None

    @property
    def lacks(self) -> tuple[str, ...]:
        """What is to be said of what it does not offer."""
        missing = {
            "It tells no token counts: those of the base's file are used, unchecked.": not self.counts,
            "It offers no log-probabilities of prompts.": self.skipped is None,
            "It takes no token ids: prompts that its tokens would read otherwise are computed on this machine.": (
                not self.takes_ids
            ),
            "It takes no top_k: its own applies, or samples come from all tokens that top_p leaves.": (
                "top_k" not in self.fields
            ),
            "It takes no min_p: where it has one of its own, unlikely tokens are never drawn.": (
                "min_p" not in self.fields
            ),
            "It takes no repeat penalty: where it has one of its own, texts come out otherwise.": (
                self.fields.isdisjoint(("repeat_penalty", "repetition_penalty"))
            ),
        }
        return tuple(sentence for sentence, is_so in missing.items() if is_so)


@dataclass(frozen=True)
class Probe:
    """An endpoint that is being looked at. `told` are its replies so far, by the body that asked for them."""

    speech: Speech
    vocabulary: Vocabulary
    base: str
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.speech.caller

    def post(self, body: Any) -> dict[str, Any]:
        """One completion. Raises Refused."""
        asked = json.dumps(body, sort_keys=True)
        if asked not in self.told:
            self.told[asked] = self.speech.complete(body, SOON)
        return self.told[asked]

    def takes(self, body: dict[str, Any]) -> bool:
        """Whether a request is answered at all; a server may end in an error over a field that it does not know."""
        try:
            choice_of(self.post(body))
        except (Refused, Misread):
            return False
        except Unanswered as error:
            if error.status != INTERNAL:  # a busy server says nothing of what it offers
                raise
            return False
        return True


def find_offer(probe: Probe, wanted: str) -> Offer:
    """Ask. `wanted` is the name of the model there; empty: its only one, or that named like the base.

    Raises SgError for an endpoint that does not answer, does not write, or runs another model.
    """
    try:
        model, n_ctx = _model(probe, wanted)
        plain = [Segment(PROBE, trusted=False)]
        ids = probe.vocabulary.prompt(tuple(plain))
        counts = _checked(probe, model, ids)
        takes_ids = probe.takes(written_body(model, ids, ONE, 1, frozenset()))
        sent: Sent = ids if takes_ids else PROBE
        if not takes_ids:
            _check_beginning(probe, model, ids)
        fields = frozenset(name for name in EXTRAS if probe.takes(_with(model, sent, name)))
        specials = takes_ids or _reads_specials(probe, model)
        skipped = _skipped(probe, model, takes_ids=takes_ids) if "logprobs" in fields else None
    except (Refused, Misread) as error:
        hint = "Is it an OpenAI-compatible server that offers text completions (`/v1/completions`)?"
        raise SgError(f"The endpoint {probe.caller.address} cannot be used: {error}.", hint) from error
    found = Offer(model, takes_ids, specials, fields, skipped, counts, n_ctx)
    logger.info("endpoint %s: %s", probe.caller.address, found)
    return found


def _with(model: str, sent: Sent, field: str) -> dict[str, Any]:
    values: dict[str, Any] = {**NEUTRAL, "top_k": 40, "logprobs": 0, "stop_token_ids": [1]}
    return {**written_body(model, sent, ONE, 1, frozenset()), field: values[field]}


# Its model


def _model(probe: Probe, wanted: str) -> tuple[str, int | None]:
    """The model's name there, and the tokens of its context where it tells them."""
    found = probe.caller.ask(f"{probe.caller.address.path}/models", patience=SOON).get("data")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    known = {str(row.get("id")): row for row in rows if row.get("id")}
    name = wanted or _chosen(probe, list(known))
    if known and name not in known:
        raise _which(f"The endpoint has no model {brief(name, 60)!r}", known)
    n_ctx = known.get(name, {}).get("max_model_len")
    return name, n_ctx if isinstance(n_ctx, int) and n_ctx > 0 else None


def _chosen(probe: Probe, known: Sequence[str]) -> str:
    if len(known) == 1:
        return known[0]
    alike = [name for name in known if name in (OUR_BASE, probe.base) or _stem(name) == probe.base.lower()]
    if len(alike) == 1:
        return alike[0]
    raise _which("The endpoint does not tell which of its models is the base", known)


def _stem(name: str) -> str:
    """A model's name in lower case, without its owner."""
    return name.rpartition("/")[2].lower()


def _which(message: str, known: Sequence[str] | dict[str, Any]) -> SgError:
    names = ", ".join(brief(shown(name), 60) for name in list(known)[:8]) or "none"
    hint = f"Name it: `engine.endpoint_model=NAME`. There: {names}."
    return SgError(f"{message}.", hint, exit_code=2)


# Its tokens


def _checked(probe: Probe, model: str, ids: list[int]) -> str:
    """Who says that its tokens are the base's; empty where nobody does. Raises SgError where they are others."""
    own = probe.vocabulary.tokenize((Segment(PROBE, trusted=False),), bos=False)
    told = _told_ids(probe, model)
    if told is not None:
        if told != own:
            raise _other(probe, model)
        return "/tokenize"
    read = count_of(probe.post(written_body(model, PROBE, ONE, 1, frozenset())), "prompt_tokens")
    if read is None:
        return ""
    if read not in (len(own), len(ids), len(own) + 1):  # it may put a beginning of its own in front
        raise _other(probe, model)
    return "usage"


def _check_beginning(probe: Probe, model: str, ids: list[int]) -> None:
    """Raise SgError for a server of texts that leaves out the token that the base's prompts begin with."""
    read = count_of(probe.post(written_body(model, PROBE, ONE, 1, frozenset())), "prompt_tokens")
    if probe.vocabulary.info.add_bos and read is not None and read < len(ids):
        hint = "Let it add that token, or ask a server that takes token ids, such as vLLM or llama-server."
        raise SgError("The endpoint reads texts without their beginning-of-sequence token.", hint, exit_code=2)


def _told_ids(probe: Probe, model: str) -> list[int] | None:
    """The ids of the probe's text from /tokenize, as vLLM and llama-server have it; None without one."""
    body = {"model": model, "prompt": PROBE, "content": PROBE, "add_special_tokens": False, "add_special": False}
    try:
        found = probe.caller.ask(f"{probe.caller.address.root}/tokenize", body, patience=Patience(tries=1))
    except (Refused, SgError):
        return None
    tokens = found.get("tokens")
    return tokens if isinstance(tokens, list) and all(isinstance(token, int) for token in tokens) else None


def _other(probe: Probe, model: str) -> SgError:
    said = f"The endpoint's {brief(shown(model), 60)!r} reads text as other tokens than {probe.base}"
    hint = "Name the GGUF of the very model that it runs as `model`."
    return SgError(f"{said}: it is another model, or wraps prompts.", hint, exit_code=2)


def _reads_specials(probe: Probe, model: str) -> bool:
    """Whether a special token's string in a text becomes that token, as in vLLM; our own server reads it as text."""
    eos = probe.vocabulary.info.eos
    plain, special = (probe.vocabulary.prompt((Segment(f"a {eos} b", trusted=one),)) for one in (False, True))
    if not eos or len(plain) == len(special):
        return False
    read = count_of(probe.post(written_body(model, f"a {eos} b", ONE, 1, frozenset())), "prompt_tokens")
    return read == len(special)


# Its log-probabilities


def _skipped(probe: Probe, model: str, *, takes_ids: bool) -> int | None:
    """How many of a prompt's first tokens an echo leaves out; None where its log-probabilities are no use.

    A few tokens that could be next must have the same probability there and, echoed, behind the text. Those that are
    told for the token before or behind differ.
    """
    known = []
    try:
        written = choice_of(probe.post({**_with(model, _sent(probe, CAT, takes_ids), "logprobs"), "logprobs": N_NEXT}))
        for token, p in next_of(written):
            spaced = (token, f" {token}")  # sentencepiece shows a token alone without its space
            found = [echo for text in spaced if (echo := _echoed(probe, model, text, takes_ids=takes_ids)) is not None]
            known += sorted((abs(echo.logprob - p), echo.skipped) for echo in found)[:1]
            if len(known) == MOST_NEXT:
                break
    except (Refused, Misread):
        return None
    except Unanswered as error:
        if error.status != INTERNAL:
            raise
        return None  # such as for `echo`
    alike = [left_out for off, left_out in known if off <= NEAR]
    return alike[0] if len(alike) >= FEWEST_NEXT and len(alike) >= MOST_ALIKE * len(known) else None


@dataclass(frozen=True)
class Echo:
    """What an echo tells of its last token, and how many of the first it leaves out."""

    logprob: float
    skipped: int


def _echoed(probe: Probe, model: str, token: str, *, takes_ids: bool) -> Echo | None:
    """A token behind the probe's text, echoed; None where the two do not stay apart."""
    before, whole = (probe.vocabulary.prompt((Segment(one, trusted=False),)) for one in (CAT, CAT + token))
    if whole[:-1] != before:
        return None
    choice = choice_of(probe.post(echo_body(model, whole if takes_ids else CAT + token)))
    skipped = _left_out(probe, choice)
    return Echo(Echoed(logprobs_of(choice)).of(len(before) - skipped, len(whole) - skipped), skipped)


def _left_out(probe: Probe, choice: dict[str, Any]) -> int:
    """1 where the beginning-of-sequence token is not among an echo's tokens, else 0."""
    info, tokens = probe.vocabulary.info, tokens_of(choice)
    return int(info.add_bos and bool(tokens) and tokens[0] not in (info.bos, ""))


def _sent(probe: Probe, text: str, takes_ids: bool) -> Sent:
    return probe.vocabulary.prompt((Segment(text, trusted=False),)) if takes_ids else text
