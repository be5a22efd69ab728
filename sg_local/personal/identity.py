"""Numbers by which states know people, with the check digits that they have (python-stdnum).

A number whose form nothing else has counts by itself. One that is so many bare digits with at most one check digit, as
one in ten order numbers would pass, counts only behind its name.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sg_local.personal.nearby import AFTER, BEFORE, Finding, cue, finding, is_said


@dataclass(frozen=True)
class Identity:
    """A kind of number: its form, the module of stdnum that checks it (none: the form is all), the words before it."""

    kind: str
    form: re.Pattern[str]
    module: str = ""
    words: re.Pattern[str] | None = None


def _known(kind: str, form: str, module: str = "", words: str = "") -> Identity:
    return Identity(kind, re.compile(f"{BEFORE}(?:{form}){AFTER}"), module, cue(words) if words else None)


NINO = r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
IDENTITIES = (
    # Europe
    _known("British National Insurance number", rf"{NINO} \d\d \d\d \d\d [A-D]"),
    _known("British National Insurance number", rf"{NINO}\d{{6}}[A-D]", "", r"national insurance|\bnino\b|\bni number"),
    _known("British NHS number", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "gb.nhs", r"\bnhs\b"),
    _known("Irish PPS number", r"\d{7} ?[A-Wa-w][A-IWa-iw]?", "ie.pps", r"\bppsn?\b"),
    _known(
        "German tax number",
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        "de.idnr",
        r"steuer-?id|identifikationsnummer|steuernummer|\bidnr|tax id",
    ),
    _known("Austrian insurance number", r"\d{4} ?\d{6}", "at.vnr", r"\bsv-?n(?:umme)?r|sozialversicherung"),
    _known("Swiss AHV number", r"756\.\d{4}\.\d{4}\.\d{2}", "ch.ssn"),
    _known("French NIR", r"[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", "fr.nir"),
    _known("Belgian national number", r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", "be.nn"),
    _known("Dutch BSN", r"\d{9}|\d{4}\.\d\d\.\d{3}", "nl.bsn", r"\bbsn\b|burgerservicenummer|sofinummer"),
    _known("Spanish DNI", r"\d{8}-?[A-Z]", "es.dni"),
    _known("Spanish NIE", r"[XYZ]-?\d{7}-?[A-Z]", "es.nie"),
    _known("Portuguese tax number", r"\d{3} ?\d{3} ?\d{3}", "pt.nif", r"\bnif\b|contribuinte"),
    _known("Italian codice fiscale", r"(?i:[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z])", "it.codicefiscale"),
    _known("Polish PESEL", r"\d{11}", "pl.pesel", r"\bpesel"),
    _known("Czech birth number", r"\d{6}/?\d{3,4}", "cz.rc", r"rodné číslo|\brč\b|r\. ?č\."),
    _known("Swedish personnummer", r"(?:\d\d)?\d{6}[-+]?\d{4}", "se.personnummer", r"person-?nummer|\bpers\.? ?nr"),
    _known("Norwegian fødselsnummer", r"\d{6} ?\d{5}", "no.fodselsnummer", r"fødselsn|personnummer"),
    _known("Danish CPR number", r"\d{6}-?\d{4}", "dk.cpr", r"\bcpr"),
    _known("Finnish personal identity code", r"\d{6}[-+A]\d{3}[0-9A-Y]", "fi.hetu"),
    _known("Turkish identity number", r"\d{11}", "tr.tckimlik", r"kimlik|\bt\.?c\.?\b|\btckn"),
    _known("Russian INN", r"\d{12}", "ru.inn", r"инн"),
    # The Americas
    _known("US social security number", r"\d{3}-\d{2}-\d{4}", "us.ssn"),
    _known("US social security number", r"\d{3} ?\d{2} ?\d{4}", "us.ssn", r"\bssn\b|social security"),
    _known("Canadian SIN", r"\d{3}[ -]?\d{3}[ -]?\d{3}", "ca.sin", r"\bsin\b|social insurance|assurance sociale"),
    _known("Brazilian CPF", r"\d{3}\.\d{3}\.\d{3}-\d\d", "br.cpf"),
    _known("Brazilian CPF", r"\d{11}", "br.cpf", r"\bcpf\b"),
    _known("Mexican CURP", r"[A-Z]{4}\d{6}[A-Z]{6}[A-Z0-9]\d", "mx.curp"),
    _known("Chilean RUT", r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]", "cl.rut"),
    # Asia, Africa, Australia
    _known("Chinese identity number", r"\d{17}[\dXx]", "cn.ric"),
    _known("Korean registration number", r"\d{6}-[1-8]\d{6}", "kr.rrn"),
    _known("Japanese My Number", r"\d{4}[ -]?\d{4}[ -]?\d{4}", "jp.in_", r"my number|マイナンバー|個人番号"),
    _known("Indian Aadhaar number", r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", "in_.aadhaar", r"aadhaar|aadhar|आधार"),
    _known("Indian PAN", r"[A-Z]{3}P[A-Z]\d{4}[A-Z]", "in_.pan", r"\bpan\b|permanent account"),
    _known("Israeli identity number", r"\d{9}", "il.idnr", r"ת\.?[\"״]?ז|תעודת זהות|teudat zehut"),
    _known("South African identity number", r"\d{6} ?\d{4} ?\d{3}", "za.idnr", r"\bid (?:number|no)|identity"),
    _known("Australian tax file number", r"\d{3} ?\d{3} ?\d{2,3}", "au.tfn", r"\btfn\b|tax file"),
    # Anywhere
    _known(
        "passport number",
        r"(?=[A-Z]{0,5}(?:\d[A-Z]{0,4}){4})[A-Z0-9]{6,9}",
        "",
        r"passport|reisepass|passeport|pasaporte|passaporto|passaporte|paspoort|paszport|паспорт|护照|여권|パスポート",
    ),
)


def identities(text: str) -> Iterator[Finding]:
    """Identity numbers whose check digits hold."""
    for identity in IDENTITIES:
        for match in identity.form.finditer(text):
            if identity.words is None or is_said(identity.words, text, match.start()):
                if not identity.module or passes(identity.module, match[0]):
                    yield finding(identity.kind, match)


def passes(module: str, number: str) -> bool:
    """Whether the check of a module of stdnum holds for a number."""
    try:
        return bool(importlib.import_module(f"stdnum.{module}").is_valid(number))
    except LookupError:  # stdnum.cn.ric, of a place that its tables lack
        return False
