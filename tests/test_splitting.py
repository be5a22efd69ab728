"""Words and bare forms of texts, in scripts with and without spaces."""

import re

import pytest
from rouge_score.tokenizers import DefaultTokenizer

from sg_local import tasks
from sg_local.metrics import Stemmed
from sg_local.splitting import bare, holds, n_words, pieces, stretches, unclosed, words


def shipped_texts():
    for path in tasks.shipped_tasks():
        task = tasks.read_task(path)
        yield from (text for pair in task.examples for text in (task.instruction, pair.input, pair.output))
        yield from (text for row in task.tests for text in (row.input, *row.outputs))


def test_english_is_parted_and_stemmed_as_rouge_score_does_it():
    theirs, plain, ours = DefaultTokenizer(use_stemmer=True), DefaultTokenizer(use_stemmer=False), Stemmed()
    texts = [
        *shipped_texts(),
        "It's the U.S.'s 3.5-mile\trun_time: don't!",
        "",
        "\u201cQuoted\u201d \u2014 twice\u2026",
    ]
    assert len(texts) > 500
    for text in texts:
        assert ours.tokenize(text) == theirs.tokenize(text)
        assert list(words(text)) == plain.tokenize(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Счёт на 15:00 отменён.", "счёт на 15 00 отменён"),
        ("हिन्दी में लिखो", "हिन्दी में लिखो"),
        ("会議は10時。", "会 議 は 10 時"),
        ("コーヒー", "コ ー ヒ ー"),
        ("ไปที่นี่ ๑๒", "ไ ป ที่ นี่ ๑๒"),
        ("한국어 문장", "한국어 문장"),
        ("Müller, cafe\u0301", "müller caf\u00e9"),
        ("می\u200cخواهم", "میخواهم"),
    ],
)
def test_words_of_other_scripts(text, expected):
    assert " ".join(words(text)) == expected


@pytest.mark.parametrize(
    ("text", "n"),
    [("Don't stop it, please.", 4), ("", 0), ("今天天气很好", 6), ("今天 很好 ok", 5), ("한국어 문장", 2)],
)
def test_words_are_counted_as_people_count_them(text, n):
    assert n_words(text) == n


def test_signs_alone_are_compared_by_the_spaces_between_them():
    assert words("\U0001f44d !") == () and pieces("\U0001f44d !") == ("\U0001f44d", "!") and pieces("ok !") == ("ok",)


@pytest.mark.parametrize("text", ["One_two  3,\n(four)", "会議は10時", "हिन्दी!", ""])
def test_stretches_join_to_the_text_again(text):
    assert "".join(stretches(text)) == text


@pytest.mark.parametrize(
    "texts",
    [
        ("C", "C++", "C#"),
        ("-1", "0", "1"),
        (">50K", "<=50K", "50K"),
        ("A", "A+"),
        ("3.5", "35", "3,5"),
        ("1/2", "12"),
        (".5", "5"),
        ("2 + 2", "2 - 2", "2 * 2"),
        ("5%", "5"),
        ("a > b", "a < b", "a b"),
        ("x == 1", "x != 1", "x <= 1"),
        ("x==1", "x!=1", "x>=1", "x1"),
        ("कि", "का", "क"),
        ("❤️", "☀️", "✈️"),
    ],
)
def test_signs_that_make_another_word_or_number_stay(texts):
    assert len(set(map(bare, texts))) == len(texts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("**Yes.**", "yes"),
        ("- yes", "Yes!"),
        ("# Yes", "yes"),
        ("> yes", "yes"),
        ("+1", "1"),
        ("1,000", "1000"),
        ("> 50K", ">50k"),
        ("\u226450K", "<=50k"),
        ("\u22121", "-1"),
        ("$5", "5"),
        ("5 %", "5%"),
        ("a -> b", "a b"),
        ("pp. 3-5", "pp 35"),
        ("qty=3; item=mug", "qty3 itemmug"),
        ("cafe\u0301", "caf\u00e9"),
        ("15:00", "1500"),
    ],
)
def test_other_punctuation_does_not(one, other):
    assert bare(one) == bare(other)


def test_texts_of_the_shipped_tasks_are_equal_where_they_were_before_signs_stayed():
    def before(text):
        return " ".join(re.sub(r"[^\w\s]", "", text.lower()).split()) or " ".join(text.lower().split())

    texts = set(shipped_texts())
    assert len(set(map(before, texts))) == len(set(map(bare, texts))) == len({(before(x), bare(x)) for x in texts})


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("Say C++ or Java.", "C", False),
        ("Say C++ or Java.", "c++", True),
        ("Answer 1 to 5", "3", False),
        ("回答是或否", "是", True),
    ],
)
def test_a_phrase_is_held_as_whole_words(text, phrase, expected):
    assert holds(text, phrase) is expected


@pytest.mark.parametrize(("text", "expected"), [("'Yes.'", "yes"), ("(C++)", "c++"), ("A*", "a*"), ("?!", "?!")])
def test_unclosed(text, expected):
    assert unclosed(text) == expected
