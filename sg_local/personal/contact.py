"""E-mail addresses and phone numbers.

Addresses of offices (info@, support@) and of the domains kept for examples (RFC 2606) are nobody's. A phone number is
one that its country has (libphonenumber): written with its country's code, behind a word that says phone, or in a form
that hardly anything else has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sg_local.personal.nearby import AFTER, BEFORE, Finding, cue, digits_of, finding, is_ordinary, is_said

EMAIL = re.compile(r"(?<![\w.+%-])([\w.+%-]{1,64})@((?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24})(?![\w-])")
OFFICES = frozenset(
    "abuse admin billing bookings careers contact contacto contact-us customerservice git hello help helpdesk hilfe hr "
    "info jobs kontakt mail mailer-daemon marketing news newsletter no-reply noreply office orders postmaster press "
    "privacy root sales security service shop support team user username verkauf vertrieb webmaster".split()
)
EXAMPLES = re.compile(r"(?:^|\.)(?:example\.(?:com|net|org|edu)|example|test|invalid|localhost)$")

PHONE_WORDS = cue(
    r"\b(?:tele)?phone\b|\btel\b|\bmobile\b|\bcell\b|\bwhatsapp\b|\bfax\b|\bcall (?:me|us|him|her)\b|\btext me\b"
    r"|\breach (?:me|him|her)\b|telefon|\bhandy|\bmobil|rufnummer|durchwahl|erreichbar unter|\bruf\w* mich"
    r"|téléphone|\bportable\b|appelez-moi|teléfono|\bmóvil\b|\bcelular|llámame|\bcellulare|chiamami|telefone"
    r"|telemóvel|telefoon|\bmobiel|\bbel me\b|\bkomórk|puhelin|телефон|\bтел\b|\bмоб|τηλέφωνο"
    r"|電話|电话|手机|携帯|전화|휴대폰"
)
NUMBER = re.compile(rf"{BEFORE}\(?\d[\d ()./-]{{5,20}}\d(?![\d%]|[.,:]\d)")
FORMS = (
    ("US", re.compile(BEFORE + r"(?:\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4}|\d{3}\.\d{3}\.\d{4})" + AFTER)),
    ("FR", re.compile(BEFORE + r"0\d(?: \d\d){4}(?! ?\d)" + AFTER)),
    ("GB", re.compile(BEFORE + r"(?:\(0\d{2,4}\)|0\d{2,4}) \d{3,4} \d{3,4}(?! ?\d)" + AFTER)),
)
"""Forms that say phone by themselves, and the country that writes them so."""

REGIONS = (
    *("US", "GB", "DE", "FR", "ES", "IT", "NL", "BE", "AT", "CH", "PL", "PT", "SE", "DK", "NO", "FI", "IE", "CZ"),
    *("BR", "MX", "AR", "CL", "CO", "IN", "AU", "NZ", "ZA", "TR", "GR", "RU", "UA", "IL", "CN", "JP", "KR", "SG"),
)
"""Countries whose own way of writing is tried behind a word that says phone."""


def emails(text: str) -> Iterator[Finding]:
    """E-mail addresses of persons."""
    for match in EMAIL.finditer(text) if "@" in text else ():
        local, domain = match[1].lower(), match[2].lower()
        if local not in OFFICES and not EXAMPLES.search(domain):
            yield finding("e-mail address", match)


def phones(text: str) -> Iterator[Finding]:
    """Phone numbers that a country has."""
    if "+" in text:
        import phonenumbers

        for match in phonenumbers.PhoneNumberMatcher(text, None):
            yield Finding("phone number", match.raw_string, match.start, match.end)
    for region, form in FORMS:
        for found in form.finditer(text):
            if not is_ordinary(text, found.start(), found.end()) and _is_valid(found[0], (region,)):
                yield finding("phone number", found)
    for found in NUMBER.finditer(text):
        said = is_said(PHONE_WORDS, text, found.start())
        if said and not is_ordinary(text, found.start(), found.end()) and _is_valid(found[0], REGIONS):
            yield finding("phone number", found)


def _is_valid(number: str, regions: tuple[str, ...]) -> bool:
    """Whether one of the countries has the number."""
    import phonenumbers

    if not 7 <= len(digits_of(number)) <= 15:
        return False
    for region in regions:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(number, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False
