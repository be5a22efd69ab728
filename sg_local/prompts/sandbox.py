"""Jinja from a model file under bounds: what it costs is limited, and whatever goes wrong is an SgError with its line.

A chat template is a program that came with a download. It gets no files and no attributes that change anything
(Jinja's immutable sandbox), TIME_S of this thread's processor time and MAX_SIZE characters: all that it writes
together, and each value by itself. Steps are counted where a program can go round or grow: loop bodies, calls,
filters, operators and literals. Each single step works on values within the bound, so none of them takes long; what
multiplies (`*`, `**`, replace, join, format, indent) is reckoned before it is done, and filters that lay out text in a
width of their choice are left out. Texts that are given as variables count too: give marks for long ones.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, wraps
from types import CodeType, GeneratorType
from typing import Any, cast

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.filters
import jinja2.sandbox
import jinja2.utils
from jinja2 import nodes

from sg_local.prompts.steps import EXTENSIONS, Watched
from sg_local.records import SgError

TIME_S = 2.0
MAX_SIZE = 1_000_000
MAX_RANGE = 100_000
MAX_BITS = 4096
MAX_FORMAT = 10_000
LEFT_OUT = {
    *("batch", "center", "filesizeformat", "pprint", "random", "round", "slice"),
    *("urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"),
}
STR_METHODS = {
    *("capitalize", "casefold", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isdigit"),
    *("islower", "isnumeric", "isspace", "isupper", "join", "lower", "lstrip", "partition", "removeprefix"),
    *("removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines"),
    *("startswith", "strip", "swapcase", "title", "upper"),
}
LONE = re.compile("[\ud800-\udfff]")
_WIDE = re.compile(r"\d{4,}|%[^a-zA-Z%]*\*|\{[^{}]+\{")


def expand(source: str, variables: Mapping[str, object], functions: Mapping[str, Callable[..., object]]) -> str:
    """The template's text. Raises SgError for whatever it raises, and where it takes too long or grows too large."""
    sandbox = Sandbox(functions)
    try:
        template = jinja2.Template.from_code(sandbox, _code(source), sandbox.make_globals(None))
        text = template.render(variables)
        _check(LONE.search(text) is None, "it writes half of a surrogate pair, which is not a character")
        return text
    except Exception as error:
        what = (error.message if isinstance(error, jinja2.TemplateError) else str(error)) or type(error).__name__
        message = f"The chat template cannot render this prompt: {what.rstrip('.')}{_where(source, error)}."
        raise SgError(message, "Try `form=plain`.") from error


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """One rendering's environment; it counts what the template does. `functions` are there besides Jinja's own."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, functions: Mapping[str, Callable[..., object]]) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=EXTENSIONS, finalize=_finalize, optimized=False
        )
        self.deadline, self.n_written = time.thread_time() + TIME_S, 0
        self.globals = {"range": self._range, "dict": dict, "namespace": jinja2.utils.Namespace}
        self.globals |= {"cycler": jinja2.utils.Cycler, "joiner": jinja2.utils.Joiner, **functions}
        own: dict[str, Callable[..., Any]] = {
            "replace": self._replace,
            "join": self._join,
            "indent": self._indent,
            "tojson": self._tojson,
        }
        own["format"] = self._format
        kept = {name: cast(Any, one) for name, one in self.filters.items() if name not in LEFT_OUT}
        self.filters = {name: self._bounded(one) for name, one in [*kept.items(), *own.items()]}
        self.tests = {name: self._bounded(cast(Any, one)) for name, one in self.tests.items()}

    def step(self, n_written: int = 0) -> None:
        """Count one step, and characters that it writes."""
        self.n_written += n_written
        if self.n_written > MAX_SIZE:
            _refuse(f"it writes more than {MAX_SIZE} characters")
        if time.thread_time() > self.deadline:
            _refuse(f"it takes longer than {TIME_S:.0f} s")

    def weighed(self, value: Any) -> Any:
        """The value itself, once its size is known to be in bounds."""
        self._weigh(value)
        return value

    def joined(self, *values: object) -> str:
        """The values one after the other as text: Jinja's `~`."""
        self._weigh(*values)
        return "".join(map(str, values))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja names them
        """A call from the template: a step, with operands and a result in bounds."""
        if __obj in (__self.step, __self.weighed, __self.joined):
            return __obj(*args)
        __self.step()
        spaces = jinja2.utils.Namespace
        __self._weigh(*(one for one in (*args, *kwargs.values()) if not isinstance(one, spaces)))
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and __obj.__name__ == "replace":
            return __self._replace(owner, *args, **kwargs)
        if isinstance(owner, str) and __obj.__name__ == "join":
            return __self._join(args[0], owner)
        found = super().call(__context, __obj, *args, **kwargs)
        return found if isinstance(found, spaces) else __self.weighed(found)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator that can make much out of little."""
        self.step()
        n_left, n_right = self._weigh(left), self._weigh(right)
        for size, times in ((n_left, right), (n_right, left)):
            if operator == "*" and isinstance(times, int) and size * times > MAX_SIZE:
                _refuse("it repeats a text too often")
        if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            n_bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            _check(n_bits <= MAX_BITS, "it reckons with too large numbers")
        if operator == "%" and isinstance(left, str):
            _check_format(left, "%", n_right)
        return self.weighed(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Of a text's methods those that cannot make it much longer."""
        if isinstance(obj, str) and attr not in STR_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` as Jinja's sandbox has it, reckoned first."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            _check_format(value.__self__, "{", self._weigh(*args, *kwargs.values()))
            return wrapped(*args, **kwargs)

        return bounded

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = Watched().visit(super()._parse(source, name, filename))
        return tree

    def _bounded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter or test as a step, with operands and a result in bounds. What it is passed comes as it did."""

        @wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            self.step()
            given = [list(one) if isinstance(one, GeneratorType) else one for one in args]
            self._weigh(*given, *kwargs.values())
            return self.weighed(function(*given, **kwargs))

        return bounded

    def _weigh(self, *values: object) -> int:
        """The size of values as they would be written, about: characters, and one for each thing in a container."""
        size, waiting = 0, list(values)
        while waiting:
            value = waiting.pop()
            if isinstance(value, jinja2.utils.Namespace):
                _refuse("it takes a namespace for a value")
            size += 1
            if isinstance(value, str):
                size += len(value)
            elif isinstance(value, int):
                size += value.bit_length() // 3
            elif isinstance(value, Mapping):
                waiting += [*value.keys(), *value.values()]
            elif isinstance(value, (list, tuple, set, frozenset)):
                waiting += value
            _check(size + len(waiting) <= MAX_SIZE, f"it makes a value of more than {MAX_SIZE} characters")
        return size

    def _range(self, *bounds: int) -> range:
        found = range(*bounds)
        _check(len(found) <= MAX_RANGE, f"a range of more than {MAX_RANGE} numbers")
        return found

    def _replace(self, text: object, old: object, new: object, count: int | None = None) -> str:
        text, old, new = str(text), str(old), str(new)
        _check(len(text) + text.count(old) * len(new) <= MAX_SIZE, "it makes a text too long")
        return text.replace(old, new, -1 if count is None else count)

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        items = [one if attribute is None else self.getitem(one, attribute) for one in value]
        _check(self._weigh(*items) + len(d) * len(items) <= MAX_SIZE, "it makes a text too long")
        return str(d).join(map(str, items))

    def _format(self, value: object, *args: object, **named: object) -> str:
        _check_format(str(value), "%", self._weigh(*args, *named.values()))
        return jinja2.filters.do_format(str(value), *args, **named)

    def _indent(self, s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        n_added = (width if isinstance(width, int) else len(width)) * (s.count("\n") + 1)
        _check(n_added <= MAX_SIZE, "it makes a text too long")
        return jinja2.filters.do_indent(s, width, first, blank)

    def _tojson(self, value: Any, indent: int | None = None, ensure_ascii: bool = False, **options: Any) -> str:
        """JSON as the transformers library writes it for templates: nothing escaped for HTML."""
        _check(indent is None or indent <= 8, "it makes a text too long")
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


@jinja2.pass_context  # so that Jinja does not write constants while it compiles
def _finalize(context: jinja2.runtime.Context, value: object) -> object:
    """What `{{ }}` writes, counted."""
    sandbox = context.environment
    assert isinstance(sandbox, Sandbox)
    sandbox.step(sandbox._weigh(value) - 1)
    return value


@lru_cache(maxsize=16)
def _code(source: str) -> CodeType:
    """The template as Python code, which fits every sandbox."""
    _check(len(source) <= MAX_SIZE, "it is too long")
    code = Sandbox({"strftime_now": str, "raise_exception": str}).compile(source)
    assert isinstance(code, CodeType)
    return code


def _check_format(text: str, mark: str, size: int) -> None:
    if len(text) > MAX_FORMAT or _WIDE.search(text) or text.count(mark) * size > MAX_SIZE:
        _refuse("it formats a text too wide")


def _check(fits: bool, otherwise: str) -> None:
    if not fits:
        _refuse(otherwise)


def _refuse(why: str) -> None:
    raise jinja2.exceptions.SecurityError(why)


def _where(source: str, error: Exception) -> str:
    """The place in the template, as words at a sentence's end; empty where Jinja cannot tell it."""
    line = getattr(error, "lineno", None) if isinstance(error, jinja2.TemplateSyntaxError) else None
    trace = error.__traceback__
    while trace is not None and not isinstance(error, jinja2.TemplateSyntaxError):
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == "<template>" else line
        trace = trace.tb_next
    lines = source.splitlines()
    if line is None or not 0 < line <= len(lines):
        return ""
    text = lines[line - 1].strip()
    return f" (line {line}: {text if len(text) <= 80 else text[:79] + chr(0x2026)})"
