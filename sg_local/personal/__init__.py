"""Likely personal data in a text: e-mail addresses, phone and card numbers, IBANs, identity numbers, dates of birth,
and names beside numbers.

What has check digits is checked (python-stdnum, phonenumbers, both offline); what has none, or a form that many other
numbers share, counts only behind a word that says what it is, in some fifteen languages. So a finding is likely right:
order numbers, prices, dates and times are none. Not covered: names alone, postal addresses, anything said in words, and
numbers whose kind nothing tells. No finding is no proof that a text holds nothing personal.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from sg_local.personal.nearby import Finding

__all__ = ["Finding", "found", "kinds", "sentence"]

MAYBE = re.compile(r"[@\d]")


@functools.lru_cache(maxsize=20_000)
def found(text: str) -> tuple[Finding, ...]:
    """What looks personal in a text, in its order; places count in the text after NFKC."""
    plain = unicodedata.normalize("NFKC", text)
    if not MAYBE.search(plain):
        return ()
    kept, taken = [], bytearray(len(plain))
    for detect in _detectors():
        for finding in detect(plain):
            if not any(taken[finding.start : finding.end]):
                kept.append(finding)
                taken[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
    return tuple(sorted(kept, key=lambda finding: finding.start))


@functools.cache
def _detectors() -> tuple[Callable[[str], Iterable[Finding]], ...]:
    """In this order: what an earlier one has found is no later one's. Imported late: their patterns take a moment."""
    from sg_local.personal.contact import emails, phones
    from sg_local.personal.identity import identities
    from sg_local.personal.names import birth_dates, names_beside_numbers
    from sg_local.personal.payment import cards, ibans

    return (emails, ibans, cards, birth_dates, identities, phones, names_beside_numbers)


def kinds(*texts: str) -> tuple[str, ...]:
    """The kinds of personal data that some texts seem to hold, each once, in their order."""
    return tuple(dict.fromkeys(finding.kind for text in texts for finding in found(text)))


def sentence(n_rows: int, counts: Mapping[str, int], of: str = "kept rows") -> str:
    """What was found in so many rows, the rows of each kind, in words; empty where nothing was."""
    if not n_rows:
        return ""
    each = ", ".join(f"{kind} {n}" for kind, n in counts.items())
    return f"{n_rows} of the {of} {'holds' if n_rows == 1 else 'hold'} likely personal data ({each})."
