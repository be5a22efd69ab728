"""JSON schema to GBNF, by llama-cpp-python's own converter (llama_grammar.py), fixed in two places.

Its `char` lets control characters into strings, which JSON does not, and its literals lose the backslashes of a
constant that holds quotes or line ends.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from llama_cpp.llama_grammar import SchemaConverter

from sg_local.records import SgError

CHAR = r'char ::= [^"\\\x7F\x00-\x1F] | [\\] (["\\bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])'


class Converter(SchemaConverter):
    """The library's converter with literals escaped in full."""

    def _format_literal(self, literal: str) -> str:
        return f'"{literal.translate(ESCAPES)}"'

    def _generate_constant_rule(self, value: Any) -> str:
        return self._format_literal(json.dumps(value, ensure_ascii=False))


ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})


_CONVERTER: Any = Converter  # llama-cpp-python gives it no types
COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
MAX_COUNT = 500
"""The largest count that is written out in a grammar: one part for each."""


@functools.lru_cache(maxsize=8)
def grammar_of(schema: str) -> str:
    """GBNF for JSON that fits the schema (JSON text), one space allowed before it, as plain prompts want.

    Keys come in the schema's order, required ones first. Bounds on numbers are not in the grammar, nor are upper bounds
    on lengths beyond MAX_COUNT. Raises SgError for what the converter cannot express.
    """
    converter: Any = _CONVERTER(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
    try:
        name = converter.visit(converter.resolve_refs(_with_small_counts(json.loads(schema)), "schema"), "answer")
        rules = converter.format_grammar()
    except (AssertionError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = str(error) or type(error).__name__
        hint = "Write the schema more simply, or leave outputs free: synth.constrain=false, eval.constrain=false."
        raise SgError(f"The task's schema cannot be made into a grammar: {reason}.", hint) from error
    rules = re.sub(r"^char ::= .*$", lambda _: CHAR, rules, flags=re.MULTILINE)
    return f'root ::= " "? {name}\n{rules}'


def _with_small_counts(data: Any) -> Any:
    """The schema without upper bounds that a grammar has no room for. Raises ValueError for such a lower bound."""
    if isinstance(data, list):
        return [_with_small_counts(item) for item in data]
    if not isinstance(data, dict):
        return data
    large = {key for key in COUNTS if isinstance(data.get(key), (int, float)) and data[key] > MAX_COUNT}
    if lower := next((key for key in large if key.startswith("min")), None):
        raise ValueError(f"{lower} is {data[lower]}, and a grammar counts to {MAX_COUNT}")
    kept = {key: value for key, value in data.items() if key not in large}
    return {key: value if key in ("const", "enum") else _with_small_counts(value) for key, value in kept.items()}
