"""Card numbers (ISO/IEC 7812: the issuer's first digits, its length, the Luhn digit) and IBANs (ISO 13616, mod 97)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sg_local.personal.nearby import AFTER, BEFORE, ORDINARY, Finding, digits_of, finding, is_said

CARD = re.compile(
    rf"{BEFORE}(?:\d{{13,19}}|\d{{4}}([ -])\d{{4}}\1\d{{4}}\1\d{{4}}(?:\1\d{{3}})?"
    rf"|\d{{4}}([ -])\d{{6}}\2\d{{4,5}}){AFTER}"
)
ISSUERS = re.compile(
    r"4\d{15}"  # Visa; its 13 digits of old are a barcode's, too
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}"  # Discover
    r"|3(?:0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
)
IBAN = re.compile(r"(?<![^\W_])[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}", re.IGNORECASE)
SHORTEST = 15  # characters of an IBAN: Norway's


def cards(text: str) -> Iterator[Finding]:
    """Card numbers; a number in one piece only where it is not an order's, an invoice's or the like."""
    from stdnum import luhn

    for match in CARD.finditer(text):
        digits = digits_of(match[0])
        if not ISSUERS.fullmatch(digits) or not luhn.is_valid(digits):
            continue
        if not match[0].isdigit() or not is_said(ORDINARY, text, match.start()):
            yield finding("card number", match)


def ibans(text: str) -> Iterator[Finding]:
    """IBANs of the length that their country has; what stands right behind one is no part of it."""
    from stdnum import iban

    for match in IBAN.finditer(text):
        number = match[0]
        while len(number) >= SHORTEST:
            if number[-1] != " " and iban.is_valid(number):
                yield Finding("IBAN", number, match.start(), match.start() + len(number))
                break
            number = number[:-1]
