"""What looks personal in a text, and what only looks like it: data cases in many languages, and drawn numbers."""

from __future__ import annotations

import random

import pytest
from bounds import soon
from hypothesis import given
from hypothesis import strategies as st

from sg_local import personal
from sg_local.personal.identity import IDENTITIES, passes

PERSONAL = [
    ("Write to anna.schmidt@firma.de today", "e-mail address", "anna.schmidt@firma.de"),
    ("(j_d+shop@mail.example-shop.co.uk)", "e-mail address", "j_d+shop@mail.example-shop.co.uk"),
    ("IBAN: DE89 3704 0044 0532 0130 00 BIC COBADEFF", "IBAN", "DE89 3704 0044 0532 0130 00"),
    ("to GB82WEST12345698765432, please", "IBAN", "GB82WEST12345698765432"),
    ("My Visa is 4111 1111 1111 1111.", "card number", "4111 1111 1111 1111"),
    ("Amex 3782 822463 10005, thanks", "card number", "3782 822463 10005"),
    ("It says 5500005555555559", "card number", "5500005555555559"),
    ("+49 30 901820", "phone number", "+49 30 901820"),
    ("Call me at (212) 736-5000", "phone number", "(212) 736-5000"),
    ("or 212-736-5000, after six", "phone number", "212-736-5000"),
    ("Ruf mich an: 0171 1234567", "phone number", "0171 1234567"),
    ("Telefon 030/901820", "phone number", "030/901820"),
    ("Tél. 01 42 68 53 00", "phone number", "01 42 68 53 00"),
    ("llámame al 612 345 678", "phone number", "612 345 678"),
    ("mój numer komórkowy: 601 234 567", "phone number", "601 234 567"),
    ("電話 03-1234-5678", "phone number", "03-1234-5678"),
    ("手机13800138000", "phone number", "13800138000"),
    ("Моб. тел. 8 912 345-67-89", "phone number", "8 912 345-67-89"),
    ("SSN 536-90-4399", "US social security number", "536-90-4399"),
    ("My NHS number is 943 476 5919.", "British NHS number", "943 476 5919"),
    ("AB 12 34 56 C", "British National Insurance number", "AB 12 34 56 C"),
    ("Steuer-ID 36 574 261 809", "German tax number", "36 574 261 809"),
    ("2 95 10 99 126 111 93", "French NIR", "2 95 10 99 126 111 93"),
    ("mi DNI es 54362315K", "Spanish DNI", "54362315K"),
    ("RCCMNL83S18D969H", "Italian codice fiscale", "RCCMNL83S18D969H"),
    ("PESEL 44051401359", "Polish PESEL", "44051401359"),
    ("BSN: 111222333", "Dutch BSN", "111222333"),
    ("CPF 390.533.447-05", "Brazilian CPF", "390.533.447-05"),
    ("756.9217.0769.85", "Swiss AHV number", "756.9217.0769.85"),
    ("85.07.30-033.28", "Belgian national number", "85.07.30-033.28"),
    ("311280-888Y", "Finnish personal identity code", "311280-888Y"),
    ("身份证11010519491231002X", "Chinese identity number", "11010519491231002X"),
    ("personnummer 880320-0016", "Swedish personnummer", "880320-0016"),
    ("CPR 211062-5629", "Danish CPR number", "211062-5629"),
    ("rodné číslo 710319/2745", "Czech birth number", "710319/2745"),
    ("SIN 123-456-782", "Canadian SIN", "123-456-782"),
    ("BOXW310820HNERXN09", "Mexican CURP", "BOXW310820HNERXN09"),
    ("Aadhaar 2341 2341 2346", "Indian Aadhaar number", "2341 2341 2346"),
    ("TFN 123 456 782", "Australian tax file number", "123 456 782"),
    ("Passport no. C01X00T47", "passport number", "C01X00T47"),
    ("Date of birth: 12.03.1984", "date of birth", "12.03.1984"),
    ("geb. 3. März 1979", "date of birth", "3. März 1979"),
    ("生年月日：1984年3月12日", "date of birth", "1984年3月12日"),
    (
        "Mrs. Anna Schmidt, customer number 4478123",
        "name beside a number",
        "Mrs. Anna Schmidt, customer number 4478123",
    ),
    ("4478123 Anna Schmidt", "name beside a number", "4478123 Anna Schmidt"),
    ("Kundin: Petra Meier, Kundennummer 998877", "name beside a number", None),
    ("João Silva, conta 8837261", "name beside a number", "João Silva, conta 8837261"),
]

NOT_PERSONAL = """
Order 4711-0815 shipped on 12.03.2024 at 10:30
Your order number is 1234567890123
Order no. 4111111111111111 has left us
Bestellnummer 4111111111111111 vom 03.04.2025
The price is $1,299.00 instead of $1,499.99
Rechnung 2024-00123 über 1.234,56 EUR
Meeting 2024-01-15T10:30:00Z in room 101, 2nd floor
Flight LH 4711 leaves 09:45, gate 22
ISBN 978-3-16-148410-0, EAN 4006381333931
Tracking 1Z999AA10123456784
Amazon order 112-1234567-1234567
Version 3.11.4, build 20240115123456
Population 83240525 in 2023, area 357,588 km²
Albert Einstein was born in 1879
Mr. Smith paid 2,500,000 dollars
Mr. Smith earned 2500000 last year
Mr. Smith, order 123456
Anna Schmidt (1998-2004)
Anna Schmidt, Rechnung 1234567
Dr. Brown wrote 12 books between 1998-2004
Commande n° 123456789 du 12/01/2024
Prix : 1 299,00 € TTC
Pedido 987654321 entregado el 05/06/2024
Fattura 2024/000123 del 1/2/2024
订单号 1234567890123456 已发货
注文番号 123-4567890-1234567 は 10:30 に届きます
заказ 12345678901 от 01.02.2024
zamówienie 12345678901 z dnia 3.05.2024
192.168.100.200 and 10.0.0.1
tel aviv 2024-10-12
The phone costs 1299.00
mobile plan, 24 months, 49.99
Call me at 10:30 on 12/03/2024
phone order 4711000123
invoice #20231115-0042
SKU 12345678
commit 4f5e6d7c8b9a0123456789abcdef012345678901
unix time 1700000000
coordinates 52.520008, 13.404954
2024/2025 season, 3-2 win
π = 3.14159265358979
1,000,000,000 and 10^12
write to info@firma.de or support@shop.com
user@example.com and a@b.test
npm install foo@1.2.3
EUR 1234567, Kontostand: 123456 Euro
Card 1234-5678-9012-3456
Lieferung am 24.12.2025 zwischen 14:00 und 16:30 Uhr
numbers 01 02 2024
The chapter about Date of birth: see page 12
DE00 3704 0044 0532 0130 00
SSN 000-00-0000
passport renewal takes 6 weeks
""".strip().splitlines()


@pytest.mark.parametrize(("text", "kind", "found"), PERSONAL, ids=[text for text, _, _ in PERSONAL])
def test_personal_data_is_found(text, kind, found):
    (finding,) = personal.found(text)
    assert finding.kind == kind and finding.text == (text if found is None else found)


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_what_only_looks_like_it_is_not(text):
    assert personal.found(text) == ()


@pytest.mark.parametrize(
    "text",
    (
        "IBAN: DE89 3704 0044 0532 0130 01",
        "My Visa is 4111 1111 1111 1112.",
        "My NHS number is 943 476 5918.",
        "Steuer-ID 36 574 261 808",
        "2 95 10 99 126 111 94",
        "mi DNI es 54362315L",
        "RCCMNL83S18D969I",
        "PESEL 44051401358",
        "BSN: 111222334",
        "CPF 390.533.447-06",
        "756.9217.0769.86",
        "11010519491231003X",
        "Aadhaar 2341 2341 2347",
        "+49 1",
        "tel. 0000 1111111",
    ),
)
def test_a_wrong_digit_is_no_finding(text):
    assert personal.found(text) == ()


def test_bare_numbers_are_next_to_never_personal():
    """Only what a card's issuer and Luhn digit let pass: at most 1 in 20 of 14 to 16 digits, none of other lengths."""
    draw = random.Random(5)
    for n_digits in range(4, 20):
        numbers = [str(draw.randrange(10 ** (n_digits - 1), 10**n_digits)) for _ in range(200)]
        n_found = sum(bool(personal.found(f"Thanks, it is {number}, as we said")) for number in numbers)
        assert n_found <= (10 if n_digits >= 14 else 0), n_digits


def test_findings_stand_in_order_and_never_overlap():
    text = "Anna Schmidt, account DE89 3704 0044 0532 0130 00, anna@firma.de, tel. 0171 1234567"
    found = personal.found(text)
    assert [one.kind for one in found] == ["IBAN", "e-mail address", "phone number"]
    assert all(text[one.start : one.end] == one.text for one in found)
    assert personal.kinds(text, text, "x@y.org") == ("IBAN", "e-mail address", "phone number")


def test_full_width_digits_count():
    assert personal.kinds("電話０３－１２３４－５６７８") == ("phone number",)


@given(st.text(alphabet="0123456789 +-./@():,XAanSD\u00e9\u96fb\u8a71", max_size=60))
def test_any_text_gets_an_answer(text):
    assert all(text for text in personal.kinds(text))


@given(
    st.sampled_from([identity.module for identity in IDENTITIES if identity.module]),
    st.text("0123456789X-. ", max_size=20),
)
def test_no_check_of_a_number_fails(module, number):
    passes(module, number)


@pytest.mark.parametrize(
    "piece", ["a", "1 ", "a.", "DE89 ", "Anna ", "12-", "A1", "+1 ", "tel 1", "Anna Schmidt 1234567 ", "a@b.co ", "1"]
)
def test_long_texts_take_no_long_time(piece):
    with soon():
        personal.found(piece * (20_000 // len(piece)))


def test_it_is_told_in_a_sentence():
    assert personal.sentence(0, {}) == ""
    assert personal.sentence(1, {"IBAN": 1}) == "1 of the kept rows holds likely personal data (IBAN 1)."
    assert personal.sentence(3, {"e-mail address": 2, "IBAN": 1}, "rows").startswith("3 of the rows hold likely")
