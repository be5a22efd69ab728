"""Templates of strangers: what they may cost, and that each failure is a user's error with its line."""

import contextlib

import pytest
from bounds import soon

from sg_local.prompts import Form, render
from sg_local.prompts.sandbox import MAX_SIZE, expand
from sg_local.records import SgError

DOUBLED = "{% set ns = namespace(x=START) %}{% for i in range(40) %}{% set ns.x = NEXT %}{% endfor %}{{ ns.x }}"
LARGE = "{% set a = 'a' * 100000 %}"
COSTLY = {
    "a text repeated": "{{ 'a' * 10**9 }}",
    "a list repeated": "{{ [1] * 10**9 }}",
    "a range": "{{ range(10**9) | list }}",
    "a large number": "{{ 9 ** (9 ** 9) }}",
    "a width": "{{ 'a' | center(10**9) }}",
    "a method's width": "{{ 'a'.ljust(10**9) }}",
    "a format's width": "{{ '%099999999d' % 1 }}",
    "a filter's width": "{{ '%099999999d' | format(1) }}",
    "a width among the values": "{{ '{:>{}}'.format('a', 10**9) }}",
    "a star": "{{ '%*d' % (10**9, 1) }}",
    "fields": LARGE + "{{ ('{0}' * 3000).format(a) }}",
    "replaced": LARGE + "{{ a.replace('a', a) }}",
    "replaced by a filter": LARGE + "{{ a | replace('a', a) }}",
    "joined": LARGE + "{{ range(99999) | join(a) }}",
    "joined by a method": LARGE + "{{ a.join(['x'] * 99999) }}",
    "indented": "{{ ('\\n' * 100000) | indent(100000) }}",
    "doubled by ~": DOUBLED.replace("START", "'aaaa'").replace("NEXT", "ns.x ~ ns.x"),
    "doubled by +": DOUBLED.replace("START", "['a']").replace("NEXT", "ns.x + ns.x"),
    "doubled in lists": DOUBLED.replace("START", "['a']").replace("NEXT", "[ns.x, ns.x]"),
    "doubled in namespaces": DOUBLED.replace("START", "1").replace("NEXT", "namespace(a=ns.x, b=ns.x)"),
    "doubled in blocks": "{% set x %}aaaa{% endset %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40,
    "written again and again": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
}
WRONG = {
    "half a character": ("{{ '\\ud800' }}", "half of a surrogate pair"),
    "1/0": ("\n\n{{ 1 / 0 }}", "division by zero (line 3: {{ 1 / 0 }})"),
    "include": ("a\n{% include 'b' %}", "(line 2: {% include 'b' %})"),
    "import": ("{% import 'b' as c %}", "(line 1"),
    "extends": ("{% extends 'b' %}", "(line 1"),
    "lipsum": ("{{ lipsum(n=9) }}", "'lipsum' is undefined"),
    "types": ("{{ none + 'a' }}", "NoneType"),
    "syntax": ("a\nb\n{% for %}", "(line 3: {% for %})"),
    "undefined as JSON": ("{{ nothing | tojson }}", "not JSON serializable"),
    "attributes": ("{{ ''.__class__.__mro__ }}", "unsafe"),
    "recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    "parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_multiplies_is_refused_before_it_is_done(name):
    with soon(), pytest.raises(SgError, match="The chat template cannot render"):
        expand(COSTLY[name], {}, {})


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{{ range(99999) | select('in', range(99999) | list) | list | length }}",
    ],
    ids=["loops in loops", "a macro twice in itself", "a filter over a range"],
)
def test_what_goes_round_is_stopped(source, monkeypatch):
    monkeypatch.setattr("sg_local.prompts.sandbox.TIME_S", 0.2)
    with soon(), pytest.raises(SgError, match="it takes longer than"):
        expand(source, {}, {})


@pytest.mark.parametrize("name", WRONG)
def test_whatever_a_template_raises_is_a_users_error_with_its_line(name):
    source, words = WRONG[name]
    with pytest.raises(SgError) as caught:
        expand(source, {}, {})
    assert words in caught.value.message and caught.value.hint == "Try `form=plain`."


def test_a_long_text_is_written_while_it_is_in_bounds():
    assert len(expand("{{ a }}" * 9, {"a": "x" * (MAX_SIZE // 10)}, {})) == 9 * (MAX_SIZE // 10)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% generation %}a{{ x }}{% endgeneration %}", "a7"),
        ("{% for a, b in {'k': 1}.items() %}{{ loop.last }}{{ a }}{{ b }}{% endfor %}", "Truek1"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "13"),
        ("{{ [1, 2] | join(',') }}{{ 'a' ~ 1 }}{{ 'x,y'.split(',')[0] }}{{ ', '.join(['a', 'b']) }}", "1,2a1xa, b"),
        ("{{ '{} b'.format(3) }}{{ '%s' % 'a' }}{{ '%s-%s' | format(1, 2) }}", "3 ba1-2"),
        ("{% set (a, b) = (1, 2) %}{{ b }}{{ [3, 4][::-1] }}", "2[4, 3]"),
        ("{% if 'a' in ['a'] and 'b' not in ('a', 'c') %}yes{% endif %}", "yes"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ ' a ' | trim }}{{ 'ab' | replace('b', 'c') }}{{ [{'r': 1}] | map(attribute='r') | list }}", "aac[1]"),
        ("{{ nothing }}{% if nothing is defined %}x{% endif %}{{ nothing | default('d') }}", "d"),
    ],
)
def test_what_templates_do_all_day_goes_as_ever(source, text):
    assert expand(source, {"x": 7}, {}) == text


@pytest.mark.parametrize("mark", ["99", "9" * 5000])
def test_a_template_that_writes_our_marks_is_refused_or_text(mark):
    template = "{{ messages[0].content }}\ue000" + mark + "\ue001"
    form = Form("chat", template, "", "", lead="")
    with contextlib.suppress(SgError):
        text = "".join(segment.text for segment in render(form, [{"role": "user", "content": "hi"}]))
        assert text.startswith("hi") and mark == "9" * 5000
