"""A finding, and the words before a number that say what it is. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

REACH = 60
"""How many characters before a number are read."""

LETTER = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A letter or digit, but for those of scripts that put no space between a word and a number."""

BEFORE, AFTER = rf"(?<!{LETTER})(?<![.,+-])", rf"(?!{LETTER}|-|[.,]\d)"
"""Where a number begins and ends: it is no part of a word, of a longer number or of a decimal one."""


@dataclass(frozen=True)
class Finding:
    """A piece of a text from `start` to `end` that looks personal, and its kind in words, such as `phone number`."""

    kind: str
    text: str
    start: int
    end: int


def finding(kind: str, match: re.Match[str], group: int | str = 0) -> Finding:
    """A finding at (a group of) a match."""
    return Finding(kind, match[group], match.start(group), match.end(group))


def cue(words: str) -> re.Pattern[str]:
    """A pattern for these words with at most 25 characters behind them, none a digit, and then the number."""
    return re.compile(rf"(?:{words})[^\d\n]{{0,25}}$", re.IGNORECASE)


def is_said(words: re.Pattern[str], text: str, start: int) -> bool:
    """Whether a cue stands before the place."""
    return words.search(text[max(0, start - REACH) : start]) is not None


ORDINARY = cue(
    # What numbers of things are called; German, Dutch and Scandinavian compounds begin with the same stems.
    r"\border|invoice|tracking|parcel|shipment|\bticket|\bcase\b|\bserial|\bmodel|\barticle|\bitem|\bsku\b|\bisbn|\bean\b"
    r"|\bpart\b|\bbatch|\blot\b|\bversion|\bbuild|\bhash|\breference|\bref\b|\bbooking|\btransaction|\bproduct"
    r"|bestell|auftrag|rechnung|artikel|sendung|paket|vorgang|serien|modell|charge|buchung|aktenzeichen|beleg"
    r"|commande|facture|colis|\bréf|\bsérie|dossier|pedido|factura|envío|ordine|fattura|spedizione|encomenda|fatura"
    r"|factuur|zending|zamówieni|faktur|przesyłk|beställning|\bordre|sipariş|заказ|счёт|счет"
    r"|订单|发票|快递|单号|注文|請求|伝票|주문|송장"
)
"""Before a number: an order, an invoice, a parcel, an article has it, no person."""

DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}")
YEARS = re.compile(r"(?:1[5-9]|20)\d\d ?[-/] ?(?:1[5-9]|20)\d\d")
PRICE = re.compile(r"\d[\d ]*[.,]\d\d")


def is_ordinary(text: str, start: int, end: int) -> bool:
    """Whether what stands there is a date, a price, a span of years, or the number of an order or the like."""
    number = text[start:end]
    forms = (DATE, YEARS, PRICE)
    return any(form.fullmatch(number) for form in forms) or is_said(ORDINARY, text, start)


def digits_of(text: str) -> str:
    """The digits alone."""
    return "".join(filter(str.isdigit, text))
