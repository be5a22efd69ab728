"""Dates of birth, and a person's name right beside a number, or beside one that is said to be an account's, a policy's.

A name is known by a title, by what introduces it, or by a first name that is common in some language with a surname
behind it. Names alone are no finding: most texts have some.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import regex

from sg_local.personal.nearby import Finding, is_ordinary

WORD = r"\p{Lu}[\p{L}\p{M}]+(?:['\u2019-]\p{Lu}?[\p{L}\p{M}]+)*"
TITLES = (
    r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herrn?|Frau|Mme|Mlle|Monsieur|Madame|Sr|Sra|Srta|Señora?|Sig|Signora?|Dott|Dottoressa"
    r"|Senhora?|Dhr|Mevr|Mevrouw|Pan[ia]|Hr|Fru)\.?"
)
INTRODUCED = (
    r"(?i:my name is|mein name ist|ich heiße|je m['\u2019]appelle|mon nom est|me llamo|mi nombre es|mi chiamo"
    r"|il mio nome è|meu nome é|chamo-me|mijn naam is|ik heet|nazywam się|jag heter|jeg hedder|jeg heter"
    r"|(?:full )?name:|nom ?:|nombre:|nome:|naam:|imię i nazwisko:|namn:|patient(?:in)?:?|customer:?|kund(?:e|in):?)"
)
FIRST = (
    # Common first names of the languages that people use this with; those that are also words are left out.
    "Aaron Abdul Adam Adriana Agnes Agnieszka Ahmed Aisha Alan Alejandra Alejandro Alessandra Alessandro Alexander "
    "Alexandra Alice Alina Amanda Amélie Amir Amit Ana Anders Andrea Andreas Andrew Andrzej Angela Anita Anja Anjali "
    "Anna Anne Annika Anton Antonio Ahmet Astrid Ayşe Barbara Beatriz Benjamin Bernd Birgit Björn Brian Bruno Camille "
    "Carla Carlos Carmen Carolina Caroline Catherine Cecilia Charles Charlotte Chiara Chloé Christian Christina "
    "Christine Christoph Christopher Claudia Clément Cristina Daniel Daniela David Deborah Denise Diana Diego Dieter "
    "Dimitri Dominik Dorota Eduardo Edward Ekaterina Elena Elisabeth Elizabeth Emily Emma Erik Ernst Esther Eva Fabian "
    "Fatima Fatma Felix Fernando Filip Florian Francesca Francesco François Françoise Frank Franz Frieda Friedrich "
    "Gabriel Gabriela Georg George Giorgio Giovanni Giulia Giuseppe Gregory Guillaume Gustav Hannah Hans Heike Heinz "
    "Helen Helena Helga Henrik Hugo Ian Ibrahim Igor Ines Ingrid Irina Isabel Isabella Ivan Jacob Jacques Jakob James "
    "Jan Jane Janina Jason Javier Jean Jennifer Jens Jessica João Joanna Johan Johanna Johannes John Jonas Jonathan "
    "Jorge José Joseph Joshua Juan Julia Julian Julie Julien Jürgen Karen Karin Karl Katarina Katarzyna Katharina "
    "Katherine Kathrin Kenji Kevin Klaus Kristina Krzysztof Lars Laura Lena Leonardo Lisa Louise Luca Lucas Lucia Lucy "
    "Luis Luisa Lukas Łukasz Magdalena Małgorzata Manuel Manuela Marco Marcel Marek Margaret Maria María Marie Mario "
    "Markus Marta Martin Martina Mary Mateusz Mathilde Matteo Matthew Matthias Maximilian Mehmet Mia Michael Michał "
    "Michelle Miguel Mohamed Mohammed Monica Monika Mustafa Nadia Natalia Natasha Nathalie Nicholas Nicola Nicole "
    "Nikolai Nina Olga Oliver Olivia Olivier Oscar Otto Pablo Paolo Patricia Patrick Paul Paula Paulo Pavel Pedro "
    "Peter Petra Philip Philipp Philippe Pierre Piotr Priya Rachel Rafael Rahul Ralf Raquel Rebecca Renate Ricardo "
    "Richard Robert Roberto Rodrigo Roland Ruth Sabine Samuel Sandra Sara Sarah Sebastian Sergei Silvia Simon Sofia "
    "Sophia Sophie Stefan Stefanie Stephan Stephanie Stephen Steven Susan Susanne Svetlana Sven Teresa Thomas Tomasz "
    "Tobias Ulrich Ursula Uwe Valentina Vanessa Victoria Vincent Viktor Vladimir Walter Werner William Wolfgang Yusuf "
    "Yves Zofia"
).split()
NAME = regex.compile(
    rf"(?<!\p{{L}})(?:(?:{TITLES}|{INTRODUCED}) {WORD}(?: {WORD}){{0,2}}|(?:{'|'.join(FIRST)})(?: \p{{Lu}}\.)? {WORD})"
)
NUMBER = regex.compile(r"(?<![\w.,+/:-])\d[\d -]{3,20}\d(?![\w%]|[.,:/-]\d)")
OWNERS = regex.compile(
    r"\b(?:account|acct|customer|member|policy|patient|client|insur|passport|licen[cs]e|employee|student|id\b"
    r"|konto|kunden|mitglied|versicher|ausweis|personal|matrikel|compte|adhérent|assuré|cuenta|cliente|socio|póliza"
    r"|paciente|conto|tessera|polizza|conta\b|apólice|rekening|klant|polis|klient|medlem|kundn)",
    regex.IGNORECASE,
)
"""What a person has a number for."""

MIN_DIGITS = 6
REACH = 50  # characters between a name and its number
MONEY = regex.compile(r"\s?(?:[$€£¥₹]|[A-Z]{3}\b|euro|dollar|pound|złot|крон|руб|kr\b)", regex.IGNORECASE)

BIRTH = regex.compile(
    r"(?i:\bdate of birth|\bd\.?o\.?b\b|\bbirth ?date|geburtsdatum|\bgeb\.|date de naissance|fecha de nacimiento"
    r"|data di nascita|data de nascimento|geboortedatum|data urodzenia|födelsedatum|fødselsdato|syntymäaika"
    r"|doğum tarihi|дата рождения|生年月日|出生日期|생년월일)[^\d\n]{0,12}?"
    r"(?P<date>\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d{1,2}(?:st|nd|rd|th|\.)? \p{L}{3,12}\.?,? \d{4}"
    r"|\p{L}{3,12}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}|\d{4}年\d{1,2}月\d{1,2}日)"
)


def birth_dates(text: str) -> Iterator[Finding]:
    """Dates behind words that call them a date of birth."""
    for match in BIRTH.finditer(text):
        yield Finding("date of birth", match["date"], match.start("date"), match.end("date"))


def names_beside_numbers(text: str) -> Iterator[Finding]:
    """A name and its number, from the first to the last of both."""
    numbers = [match.span() for match in NUMBER.finditer(text) if _may_be_owned(text, *match.span())]
    for name in NAME.finditer(text) if numbers else ():
        after = bisect.bisect(numbers, name.span())
        for start, end in numbers[max(0, after - 1) : after + 1]:
            if _beside(text[min(name.end(), end) : max(name.start(), start)]):
                first, last = min(name.start(), start), max(name.end(), end)
                yield Finding("name beside a number", text[first:last], first, last)
                break


def _may_be_owned(text: str, start: int, end: int) -> bool:
    """Whether a number may be a person's: long enough, no date, price or order's number, no sum of money."""
    n_digits = sum(map(str.isdigit, text[start:end]))
    is_sum = MONEY.match(text, end) or text[max(0, start - 2) : start].strip() in ("$", "\u20ac", "\u00a3")
    return n_digits >= MIN_DIGITS and not is_sum and not is_ordinary(text, start, end)


def _beside(between: str) -> bool:
    """Whether what stands between a name and a number joins them: marks alone, or words for what the number is."""
    if len(between) > REACH or regex.search(r"\n|[.!?] ", between):
        return False
    return not regex.search(r"\w", between) or OWNERS.search(between) is not None
