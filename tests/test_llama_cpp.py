"""The llama.cpp engine against plain one-sequence computations, on tiny models of random weights and on real ones."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sg_local.backends import EngineSettings
from sg_local.gguf import GgufFile
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segment, SgError, to_json
from tests import tiny_models

lib = pytest.importorskip("llama_cpp")

from sg_local.backends import footprint
from sg_local.backends import llama_cpp as engine
from sg_local.backends.llama_cpp import copies, neighbours, probe, scheduler
from sg_local.backends.llama_cpp.prefix import common_length, shared_length
from sg_local.backends.llama_cpp.rows import first_stop
from sg_local.backends.llama_cpp.sampling import best, log_normaliser

SPECS = {"bpe": tiny_models.TinySpec("bpe", "F32", "F32"), "spm": tiny_models.TinySpec("spm", "F32", "F32")}
HOT = 200.0  # random weights are so sure of themselves that cooler draws are all the same
CHAT = ("<|im_start|>user\n", "Where is my parcel?", "<|im_end|>\n<|im_start|>assistant\n")
VICUNA = ("A chat. USER: ", "Where is my parcel?", " ASSISTANT: It is here.</s>USER: Thanks! ASSISTANT:")


@pytest.fixture(scope="module", params=SPECS)
def tiny(request, tmp_path_factory) -> Path:
    """A tiny F32 model of either kind of tokenizer."""
    return tiny_models.write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", SPECS[request.param])


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> Path:
    return tiny_models.write_model(tmp_path_factory.mktemp("bpe") / "bpe.gguf", SPECS["bpe"])


@pytest.fixture(scope="module")
def spm(tmp_path_factory) -> Path:
    return tiny_models.write_model(tmp_path_factory.mktemp("spm") / "spm.gguf", SPECS["spm"])


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A folder of caches for all tests here, so that each file is tried in a process of its own once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def opened(kept) -> Iterator:
    """Opens generators as given, with few sequences and one thread, and closes them at the end."""
    engines = []

    def open_one(model: Path, **settings):
        chosen = {"n_ctx": 256, "n_parallel": 4, "n_threads": 1, "fast_copy": False, "cache": kept}
        engines.append(engine.open_generator(model, EngineSettings(**{**chosen, **settings})))
        return engines[-1]

    yield open_one
    for each in engines:
        each.close()


def segments(*texts: str, trusted: bool = True) -> tuple[Segment, ...]:
    return tuple(Segment(text, trusted) for text in texts)


def prompts(n: int, sampling: Sampling, start: str = "Input: ") -> list[Prompt]:
    return [Prompt(f"p{i}", segments(f"{start}one more line, number {i}."), sampling, seed=i + 1) for i in range(n)]


def texts_of(generator, asked) -> dict[str, str]:
    return {done.prompt_id: done.text for done in generator.generate(asked)}


def plain_tokens(model: Path, text: str, special: bool = True) -> list[int]:
    """llama.cpp's own tokenisation of a whole string."""
    params = lib.llama_model_default_params()
    params.vocab_only = True
    loaded = lib.llama_model_load_from_file(str(model).encode(), params)
    vocab, data = lib.llama_model_get_vocab(loaded), text.encode()
    buffer = (lib.llama_token * (len(data) + 16))()
    count = lib.llama_tokenize(vocab, data, len(data), buffer, len(buffer), True, special)
    lib.llama_model_free(loaded)
    return buffer[:count]


class Plain:
    """One sequence, one token at a time, no sharing: what the engine must agree with."""

    def __init__(self, model: Path) -> None:
        self.model = lib.llama_model_load_from_file(str(model).encode(), lib.llama_model_default_params())
        self.n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = 1
        self.context = lib.llama_init_from_model(self.model, params)

    def logprobs(self, tokens: list[int]) -> np.ndarray:
        """Log-probabilities after every token, float64 (tokens, vocabulary)."""
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        rows = []
        for token in tokens:
            batch = lib.llama_batch_get_one((lib.llama_token * 1)(token), 1)
            assert lib.llama_decode(self.context, batch) == 0
            row = np.ctypeslib.as_array(lib.llama_get_logits_ith(self.context, -1), (self.n_vocab,))
            rows.append(row.astype(np.float64) - np.logaddexp.reduce(row.astype(np.float64)))
        return np.array(rows)

    def score(self, prompt: list[int], continuation: list[int]) -> float:
        rows = self.logprobs([*prompt, *continuation])[len(prompt) - 1 : -1]
        return float(sum(row[token] for row, token in zip(rows, continuation, strict=True)))

    def close(self) -> None:
        lib.llama_free(self.context)
        lib.llama_model_free(self.model)


@pytest.fixture
def plain() -> Iterator:
    made = []

    def make(model: Path) -> Plain:
        made.append(Plain(model))
        return made[-1]

    yield make
    for each in made:
        each.close()


# -- tokens


@pytest.mark.parametrize("texts", [CHAT, VICUNA, ("  two  spaces ", "\n\nlines"), ("caf", "\u00e9 \U0001f600"), ("",)])
def test_trusted_segments_tokenise_as_the_whole_string(tiny, opened, texts):
    assert list(opened(tiny).tokenize(segments(*texts))) == plain_tokens(tiny, "".join(texts))


def test_merges_cross_segment_borders(tiny, opened):
    generator = opened(tiny)
    whole = generator.tokenize(segments("The quick brown fox"))
    parts = (Segment("The qu"), Segment("ick bro", trusted=False), Segment("wn fox"))
    assert generator.tokenize(parts) == whole


@pytest.mark.parametrize(("name", "special"), [("bpe", "<|im_end|>"), ("spm", "</s>")])
def test_a_special_string_counts_only_where_trusted(name, special, opened, request):
    model = request.getfixturevalue(name)
    generator = opened(model)
    (end,) = generator.tokenize(segments(special), bos=False)
    text = f"before {special} after"
    assert end in generator.tokenize(segments(text))
    untrusted = generator.tokenize(segments(text, trusted=False))
    assert end not in untrusted
    assert list(untrusted) == plain_tokens(model, text, special=False)


def test_a_special_string_is_not_made_of_trusted_and_untrusted_halves(bpe, opened):
    halves = (Segment("<|im_"), Segment("end|>", trusted=False))
    assert list(opened(bpe).tokenize(halves)) == plain_tokens(bpe, "<|im_end|>", special=False)


def test_bos_is_added_where_the_model_asks_for_it(bpe, spm, opened):
    with_bos, without = (opened(spm).tokenize(segments("hello"), bos=bos) for bos in (True, False))
    assert with_bos[1:] == without and with_bos[0] == 1
    assert opened(bpe).tokenize(segments("hello")) == opened(bpe).tokenize(segments("hello"), bos=False)


@pytest.mark.slow
def test_real_chat_text_tokenises_as_the_whole_string(embedded, opened):
    text = f"{CHAT[0]}I'll pay 3.50\u20ac \u2014 d\u00e9j\u00e0 vu?\n\n  ok{CHAT[2]}"
    parts = (Segment(CHAT[0]), Segment(text[len(CHAT[0]) : -len(CHAT[2])], trusted=False), Segment(CHAT[2]))
    assert list(opened(embedded).tokenize(parts)) == plain_tokens(embedded, text)


# -- files that cannot work


def test_a_missing_file_is_refused(tmp_path, opened):
    with pytest.raises(SgError, match="no model"):
        opened(tmp_path / "none.gguf")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.999])
def test_a_truncated_file_is_refused_before_llama_cpp_sees_it(bpe, tmp_path, opened, share):
    short = tmp_path / "short.gguf"
    data = bpe.read_bytes()
    short.write_bytes(data[: int(share * len(data))])
    with pytest.raises(SgError, match="cut off"):
        opened(short)


def test_other_files_are_refused(tmp_path, opened):
    text = tmp_path / "text.gguf"
    text.write_text("not a model, whatever its name says")
    with pytest.raises(SgError, match="not a GGUF"):
        opened(text)
    lora = tiny_models.write_lora(tmp_path / "lora.gguf", tiny_models.lora_pairs(SPECS["bpe"]), 8.0)
    with pytest.raises(SgError, match="adapter"):
        opened(lora)


def test_an_architecture_that_llama_cpp_does_not_know_is_refused(tmp_path, bpe, opened):
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(bpe.read_bytes().replace(b"llama", b"lxama"))
    with pytest.raises(SgError, match="cannot load"):
        opened(odd)


# -- writing


def test_every_prompt_comes_back_once(tiny, opened):
    done = list(opened(tiny).generate(prompts(23, Sampling(temperature=HOT, max_tokens=7))))
    assert sorted(each.prompt_id for each in done) == sorted(f"p{i}" for i in range(23))
    assert all(each.n_tokens <= 7 for each in done)


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=12), Sampling(temperature=HOT, top_k=0, max_tokens=12)])
def test_texts_do_not_depend_on_the_rows_around(tiny, opened, sampling):
    asked = prompts(9, sampling)
    together = texts_of(opened(tiny, n_parallel=6), asked)
    assert texts_of(opened(tiny, n_parallel=1), reversed(asked)) == together


def test_greedy_takes_the_best_token_each_time(bpe, opened, plain):
    (done,) = opened(bpe).generate([Prompt("a", segments(*CHAT), Sampling(max_tokens=10))])
    reference, tokens = plain(bpe), plain_tokens(bpe, "".join(CHAT))
    n_prompt, total = len(tokens), 0.0
    for _ in range(done.n_tokens):
        row = reference.logprobs(tokens)[-1]
        tokens.append(int(row.argmax()))
        total += row.max()
    assert done.n_prompt_tokens == n_prompt
    assert done.logprob == pytest.approx(total, abs=1e-3)


def test_samples_of_one_prompt_differ_by_seed_alone(bpe, opened):
    generator = opened(bpe, n_parallel=8)
    sampling = Sampling(temperature=HOT, max_tokens=12)
    same = [Prompt(f"{i}", segments(*CHAT), sampling, seed=1 + i % 5) for i in range(10)]
    found = texts_of(generator, same)
    assert len(set(found.values())) == 5
    assert all(found[str(i)] == found[str(i + 5)] for i in range(5))


def test_samples_of_one_prompt_are_read_once(bpe, opened):
    generator = opened(bpe, n_parallel=8)
    put, n_put = generator._context.put, []
    generator._context.put = lambda tokens, *rest, **named: n_put.append(len(tokens)) or put(tokens, *rest, **named)
    same = [Prompt(f"{i}", segments(*CHAT), Sampling(temperature=HOT, max_tokens=1), seed=i) for i in range(8)]
    list(generator.generate(same))
    assert sum(n_put) == len(plain_tokens(bpe, "".join(CHAT)))


def test_what_prompts_share_is_read_once(bpe, opened):
    generator = opened(bpe, n_parallel=8)
    start = "Route the message to billing, delivery or technical. " * 2
    asked = prompts(8, Sampling(max_tokens=1), start)
    put, n_put = generator._context.put, []
    generator._context.put = lambda tokens, *rest, **named: n_put.append(len(tokens)) or put(tokens, *rest, **named)
    first = texts_of(generator, asked)
    shared = shared_length([generator.tokenize(prompt.segments) for prompt in asked])
    longest = max(len(generator.tokenize(prompt.segments)) for prompt in asked)
    assert sum(n_put) <= shared + 8 * (longest - shared)
    n_put.clear()
    assert texts_of(generator, asked) == first
    assert sum(n_put) <= 8 * (longest - shared)


def test_an_endless_iterator_is_read_as_it_is_needed(bpe, opened):
    read = itertools.count()
    sampling = Sampling(max_tokens=4)
    endless = (Prompt(str(next(read)), segments(f"row {i}"), sampling) for i in itertools.count())
    generator = opened(bpe, n_parallel=4)
    rows = generator.generate(endless)
    assert len([next(rows) for _ in range(10)]) == 10
    rows.close()
    assert next(read) <= 10 + 4 * 4
    assert len(texts_of(generator, prompts(3, sampling))) == 3


def test_a_prompt_beyond_the_context_names_its_id(bpe, opened):
    with pytest.raises(SgError, match="Prompt long needs"):
        list(opened(bpe, n_ctx=64).generate([Prompt("long", segments("one two three " * 40), Sampling())]))


def test_a_full_context_ends_a_row(bpe, opened):
    generator = opened(bpe, n_ctx=64)
    n_prompt = len(generator.tokenize(segments(*CHAT)))
    grammar = 'root ::= "a" root'
    asked = Prompt("a", segments(*CHAT), Sampling(max_tokens=500, temperature=HOT, grammar=grammar))
    (done,) = generator.generate([asked])
    assert (done.finish, done.n_tokens) == ("context", 64 - n_prompt)


def test_a_long_prompt_is_read_in_several_batches(bpe, opened, plain):
    text = "seven wizards wait. " * 90
    generator = opened(bpe, n_ctx=1024)
    assert len(generator.tokenize(segments(text))) > generator._context.n_batch
    asked = [Prompt("a", segments(text), Sampling(max_tokens=3)), Prompt("b", segments("fox"), Sampling(max_tokens=3))]
    together = texts_of(generator, asked)
    assert together["a"] == texts_of(opened(bpe, n_ctx=1024), asked[:1])["a"]
    scored = ScoredPrompt("s", segments(text), (" fox", " dog"))
    assert len(next(iter(generator.score([scored]))).logprobs) == 2


def test_running_out_of_cells_loses_no_row(bpe, opened, plain, monkeypatch):
    monkeypatch.setattr(footprint, "KV_BYTES", 1)
    rows, answers = [], []
    release = scheduler.Scheduler._release
    monkeypatch.setattr(scheduler.Scheduler, "_release", lambda self, row: rows.append(row) or release(self, row))
    tight = opened(bpe, n_parallel=12)
    decode = tight._context.decode
    tight._context.decode = lambda: answers.append(decode()) or answers[-1]
    asked = prompts(12, Sampling(temperature=HOT, max_tokens=150, grammar="root ::= [a-z] root"))
    assert len(texts_of(tight, asked)) == 12
    assert False in answers, "the pool was large enough: this test shows nothing"
    reference = plain(bpe)
    for row in rows:
        prompt, new = row.tokens[: row.n_prompt], row.tokens[row.n_prompt :]
        assert len(new) == 150
        assert row.logprob == pytest.approx(reference.score(prompt, new), rel=1e-3)


def test_ctrl_c_ends_a_decode_and_leaves_the_engine_usable(tmp_path, opened):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started deaf to it
    wide = tiny_models.TinySpec("bpe", "F32", "F32", width=512, ffn=4096, layers=12, heads=8, kv_heads=8)
    generator = opened(tiny_models.write_model(tmp_path / "wide.gguf", wide), n_ctx=2048)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    endless = (
        Prompt(str(i), segments(f"{i} " * 200), Sampling(temperature=HOT, max_tokens=400)) for i in itertools.count()
    )
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        for _ in generator.generate(endless):
            pass
    assert len(texts_of(generator, prompts(2, Sampling(max_tokens=2)))) == 2


# -- stop strings and characters


@pytest.mark.parametrize(
    ("data", "n_fresh", "stops", "cut"),
    [
        (b"one\ntwo", 7, ("\n",), 3),
        (b"one two", 7, ("\n",), None),
        (b"done\n\nIn", 2, ("\n\nIn",), 4),
        (b"a b c", 5, ("c", "b"), 2),
        (b"abc", 3, ("",), None),
        ("caf\u00e9!".encode(), 1, ("\u00e9!",), 3),
    ],
)
def test_first_stop(data, n_fresh, stops, cut):
    assert first_stop(bytearray(data), n_fresh, stops) == cut


def test_a_stop_string_over_token_borders_is_cut_exactly(bpe, opened):
    generator = opened(bpe)
    sampling = Sampling(temperature=HOT, max_tokens=60, grammar='root ::= "where is " [a-z]+')
    (whole,) = generator.generate([Prompt("a", segments(*CHAT), sampling)])
    stop = whole.text[3:12]
    cut = Sampling(temperature=HOT, max_tokens=60, grammar=sampling.grammar, stop=(stop,))
    (done,) = generator.generate([Prompt("a", segments(*CHAT), cut)])
    assert (done.text, done.finish) == (whole.text[:3], "stop")


def test_characters_split_over_tokens_are_put_together(bpe, opened):
    word = "\u00fc\u4e2d\U0001f600"
    grammar = f'root ::= "{word}"'
    (done,) = opened(bpe).generate([Prompt("a", segments(*CHAT), Sampling(max_tokens=40, grammar=grammar))])
    assert done.text == word and done.n_tokens > 3
    (cut,) = opened(bpe).generate([Prompt("a", segments(*CHAT), Sampling(max_tokens=1, grammar=grammar))])
    assert cut.text == ""


# -- sampling


@pytest.mark.parametrize("k", [1, 5, 40, 700])
@pytest.mark.parametrize("size", [1000, 4096, 49152])
def test_candidates_hold_the_best(k, size):
    row = np.random.default_rng(size + k).normal(size=size).astype(np.float32)
    assert set(np.argsort(row)[-k:]) <= set(best(row, k))


def test_log_normaliser():
    row = np.array([1000.0, 1001.0, -5.0], np.float32)
    assert log_normaliser(row, np.empty_like(row)) == pytest.approx(float(np.logaddexp(1000, 1001)), abs=1e-3)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_narrowing_the_candidates_changes_no_draw(bpe, opened, penalty, monkeypatch):
    sampling = Sampling(temperature=HOT, top_k=5, top_p=0.95, min_p=0.001, repeat_penalty=penalty, max_tokens=30)
    narrowed = texts_of(opened(bpe), prompts(6, sampling))
    monkeypatch.setattr("sg_local.backends.llama_cpp.sampling.best", lambda row, k: np.arange(row.size))
    assert texts_of(opened(bpe), prompts(6, sampling)) == narrowed


@pytest.mark.parametrize("name", ["repeat_penalty", "frequency_penalty", "presence_penalty"])
def test_a_strong_penalty_keeps_a_row_from_repeating_itself(bpe, opened, name):
    engine = opened(bpe)
    (done,) = engine.generate(prompts(1, Sampling(max_tokens=20, **{name: 1e6})))
    (free,) = engine.generate(prompts(1, Sampling(max_tokens=20)))
    tokens = engine.tokenize((Segment(done.text, False),))
    assert done.text != free.text and len(set(tokens)) > len(tokens) // 2


def test_a_grammar_lets_only_its_strings_through(bpe, opened):
    sampling = Sampling(temperature=HOT, max_tokens=20, grammar='root ::= "billing" | "delivery" | "technical"')
    assert set(texts_of(opened(bpe), prompts(12, sampling)).values()) <= {"billing", "delivery", "technical"}


def test_a_grammar_that_does_not_parse_is_refused(bpe, opened, capfd):
    with pytest.raises(SgError, match="grammar"):
        list(opened(bpe).generate([Prompt("a", segments("x"), Sampling(grammar="root ::= ("))]))
    assert capfd.readouterr().err == ""


# -- scoring


def test_scores_agree_with_one_by_one(tiny, opened, plain):
    asked = [
        ScoredPrompt(f"s{i}", segments(f"Route the message, number {i}: ", trusted=False), choices, end=i % 2 == 0)
        for i, choices in enumerate([("billing", "delivery", "technical"), ("a", "bc"), ("yes",), ("one two",) * 3])
    ]
    generator, reference = opened(tiny), plain(tiny)
    scores = {score.prompt_id: score.logprobs for score in generator.score(asked)}
    for prompt in asked:
        tokens = list(generator.tokenize(prompt.segments))
        end = [2] if prompt.end else []
        for text, found in zip(prompt.continuations, scores[prompt.id], strict=True):
            continuation = generator._vocab.continuation(prompt.segments, tokens, text)
            assert generator._vocab.piece(continuation[-1]).decode()[-1] == text[-1]
            assert found == pytest.approx(reference.score(tokens, [*continuation, *end]), abs=1e-3, rel=5e-5)


def test_one_decode_scores_many_prompts(bpe, opened):
    generator = opened(bpe)
    counted = []
    decode = generator._context.decode
    generator._context.decode = lambda: counted.append(1) or decode()
    asked = [ScoredPrompt(str(i), segments(f"message {i}"), ("a", "b", "billing")) for i in range(8)]
    assert [score.prompt_id for score in generator.score(asked)] == [str(i) for i in range(8)]
    assert len(counted) == 1


def test_more_continuations_than_sequences(bpe, opened):
    texts = tuple(f"label number {i}" for i in range(300))
    generator = opened(bpe)
    (score,) = generator.score([ScoredPrompt("a", segments(*CHAT), texts)])
    (few,) = generator.score([ScoredPrompt("a", segments(*CHAT), texts[250:253])])
    assert score.logprobs[250:253] == pytest.approx(few.logprobs, rel=2e-4)


def test_a_continuation_longer_than_a_decode_is_the_sum_of_its_parts(tiny, opened):
    generator, words = opened(tiny, n_ctx=1600), " fox jumps"
    parts = [ScoredPrompt(str(n), segments("hello" + n * 10 * words, trusted=False), (10 * words,)) for n in range(30)]
    whole = ScoredPrompt("whole", segments("hello", trusted=False), (300 * words, words))
    lengths = [sum(len(generator.question(one).continuations[0]) for one in asked) for asked in ([whole], parts)]
    assert lengths[0] == lengths[1] > 600
    wanted = sum(score.logprobs[0] for score in generator.score(parts))
    (found,) = generator.score([whole])
    assert found.logprobs[0] == pytest.approx(wanted, rel=1e-3)
    assert found.logprobs[1] == pytest.approx(
        next(iter(generator.score([replaced(whole, words)]))).logprobs[0], abs=0.01
    )


def replaced(ask: ScoredPrompt, *continuations: str) -> ScoredPrompt:
    return dataclasses.replace(ask, continuations=continuations)


@pytest.mark.slow
def test_real_scores_and_logprobs_agree_with_one_by_one(embedded, opened, plain):
    generator, reference = opened(embedded, n_threads=2), plain(embedded)
    tokens = list(generator.tokenize(segments(*CHAT)))
    (score,) = generator.score([ScoredPrompt("a", segments(*CHAT), ("Your parcel", "No"), end=True)])
    for text, found in zip(("Your parcel", "No"), score.logprobs, strict=True):
        continuation = generator._vocab.continuation(segments(*CHAT), tokens, text)
        assert found == pytest.approx(reference.score(tokens, [*continuation, 2]), abs=0.15)


# -- adapters


def test_an_adapter_changes_answers_and_none_brings_the_base_back(bpe, opened, tmp_path):
    lora = tiny_models.write_lora(tmp_path / "lora.gguf", tiny_models.lora_pairs(SPECS["bpe"], size=0.5), 8.0)
    asked = [ScoredPrompt("a", segments(*CHAT * 3), ("billing", "delivery"))]
    generator, fresh = opened(bpe), opened(bpe)
    base = next(iter(generator.score(asked))).logprobs
    generator.use_adapter(lora)
    fresh.use_adapter(lora)
    tuned = next(iter(generator.score(asked))).logprobs
    assert tuned != pytest.approx(base, abs=0.01)
    assert tuned == pytest.approx(next(iter(fresh.score(asked))).logprobs, abs=1e-4)
    generator.use_adapter(None)
    assert next(iter(generator.score(asked))).logprobs == pytest.approx(base, abs=1e-4)


def test_an_adapter_of_another_base_is_refused(bpe, opened, tmp_path):
    other = tiny_models.TinySpec("bpe", "F32", "F32", ffn=768)
    lora = tiny_models.write_lora(tmp_path / "lora.gguf", tiny_models.lora_pairs(other), 8.0)
    generator = opened(bpe)
    with pytest.raises(SgError, match="does not fit"):
        generator.use_adapter(lora)
    with pytest.raises(SgError, match="no adapter"):
        generator.use_adapter(tmp_path / "none.gguf")
    assert len(texts_of(generator, prompts(2, Sampling(max_tokens=2)))) == 2


# -- the choice of a format


@pytest.fixture(scope="module")
def quantised(tmp_path_factory) -> Path:
    return tiny_models.write_model(tmp_path_factory.mktemp("q") / "q4.gguf", tiny_models.TinySpec(type="Q4_1"))


@pytest.fixture
def race(monkeypatch):
    """Sets how fast formats are on this machine, whatever it really is, and lists what was measured."""
    opened = probe._Probe._opened

    def set_rates(**rates: float) -> list[str]:
        measured: list[str] = []

        @contextlib.contextmanager
        def named(self, path):
            with opened(self, path) as context:
                context.format = next((name for name in rates if path.name.split(".")[0].endswith(name)), "given")
                yield context

        def seconds(context, n_parallel):
            measured.append(context.format)
            return n_parallel / rates.get(context.format, 1.0)

        monkeypatch.setattr(probe, "TOO_SMALL_BYTES", 0)
        monkeypatch.setattr(probe, "measure", seconds)
        monkeypatch.setattr(probe._Probe, "_opened", named)
        monkeypatch.setattr(copies, "_computes_bf16", lambda: False)
        return measured

    return set_rates


def question(model: Path, cache: Path, n_parallel: int | None = None) -> probe.ProbeRequest:
    return probe.ProbeRequest(model, "0" * 64, 1, n_parallel, 0, cache)


def test_small_models_run_as_given(bpe, tmp_path):
    choice = probe.choose(question(bpe, tmp_path))
    assert (choice.format, choice.path, choice.trials) == (probe.GIVEN, str(bpe), ())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rates", "format"),
    [
        ({"F16": 1.1, "Q8_0": 1.15}, probe.GIVEN),
        ({"F16": 1.3, "Q8_0": 1.35}, "F16"),
        ({"F16": 1.3, "Q8_0": 1.5}, "Q8_0"),
        ({"F16": 0.7, "Q8_0": 1.5}, "Q8_0"),
    ],
)
def test_a_copy_is_used_where_it_wins_by_enough(quantised, tmp_path, race, rates, format):
    race(**rates)
    choice = probe.choose(question(quantised, tmp_path))
    kept = [] if format == probe.GIVEN else [Path(choice.path)]
    assert choice.format == format
    assert sorted(tmp_path.rglob("*.gguf")) == kept
    assert choice.n_parallel == min(probe.PARALLEL)


def test_a_choice_is_remembered_until_its_copy_is_gone(quantised, tmp_path, race):
    measured = race(F16=2.0)
    first = probe.choose(question(quantised, tmp_path))
    n_measured = len(measured)
    assert probe.choose(question(quantised, tmp_path)) == first
    assert len(measured) == n_measured
    Path(first.path).unlink()
    assert probe.choose(question(quantised, tmp_path)) == first
    assert len(measured) > n_measured and Path(first.path).exists()


def aged(cache: Path, seconds: float) -> None:
    """Make every choice in the cache so much older."""
    for entry in (cache / "choices").iterdir():
        os.utime(entry, (time.time() - seconds,) * 2)


def test_what_a_busy_machine_chose_is_tried_again_and_what_a_quiet_one_chose_is_not(
    quantised, tmp_path, race, monkeypatch
):
    shares = iter([0.5, 0.4, 0.95])
    monkeypatch.setattr(neighbours.Watch, "got", property(lambda watch: next(shares)))
    race(F16=2.0)
    first = probe.choose(question(quantised, tmp_path))
    assert (first.format, first.got, first.n_tries) == ("F16", 0.5, 1)
    copy = Path(first.path).stat().st_ino
    measured = race(F16=0.5)
    aged(tmp_path, neighbours.HOLDS_S - 60)
    assert probe.choose(question(quantised, tmp_path)) == first and not measured
    aged(tmp_path, neighbours.HOLDS_S + 60)
    busier = probe.choose(question(quantised, tmp_path))
    assert measured and busier == dataclasses.replace(first, n_tries=2)
    aged(tmp_path, neighbours.HOLDS_S + 60)
    assert probe.choose(question(quantised, tmp_path)) == busier
    aged(tmp_path, neighbours.LONGER * neighbours.HOLDS_S + 60)
    quiet = probe.choose(question(quantised, tmp_path))
    assert (quiet.format, quiet.got, quiet.n_tries) == (probe.GIVEN, 0.95, 3)
    aged(tmp_path, 10**9)
    assert probe.choose(question(quantised, tmp_path)) == quiet
    assert Path(first.path).stat().st_ino == copy


def test_a_trial_that_fails_again_is_put_off_as_one_that_came_through(quantised, tmp_path, race, monkeypatch):
    monkeypatch.setattr(neighbours.Watch, "got", property(lambda watch: 0.5))
    race(F16=2.0)
    first = probe.choose(question(quantised, tmp_path))
    tries = []

    def full(one):
        tries.append(one)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(probe._Probe, "run", full)
    aged(tmp_path, neighbours.HOLDS_S + 60)
    again = probe.choose(question(quantised, tmp_path))
    assert again == dataclasses.replace(first, n_tries=2) and len(tries) == 1
    assert probe.choose(question(quantised, tmp_path)) == again and len(tries) == 1


def test_a_copy_that_is_there_is_not_written_again(quantised, tmp_path, race, monkeypatch):
    monkeypatch.setattr(neighbours.Watch, "got", property(lambda watch: 0.5))
    race(F16=2.0)
    first = probe.choose(question(quantised, tmp_path))
    copy = Path(first.path).stat().st_ino
    aged(tmp_path, 10**9)
    assert probe.choose(question(quantised, tmp_path)).path == first.path
    assert Path(first.path).stat().st_ino == copy and list(tmp_path.rglob("*.gguf")) == [Path(first.path)]


def test_a_share_of_the_processors_is_what_the_threads_ran(monkeypatch):
    walls, cpus = iter([0.0, 2.0, 5.0, 7.0]), iter([1.0, 2.0, 2.0, 5.0])
    clocks = SimpleNamespace(perf_counter=lambda: next(walls), process_time=lambda: next(cpus))
    monkeypatch.setattr(neighbours, "time", clocks)
    watch = neighbours.Watch(2)
    assert watch.got == 1.0
    for _ in range(2):
        with watch.measuring():
            pass
    assert watch.got == 0.5


def test_a_large_model_is_tried_on_its_first_layers_and_copied_whole(quantised, tmp_path, race, monkeypatch):
    race(F16=2.0)
    monkeypatch.setattr(copies, "SLICE_BYTES", 1)
    sizes = []
    monkeypatch.setattr(
        probe, "write_slice", lambda source, out, n: sizes.append(out) or copies.write_slice(source, out, n)
    )
    choice = probe.choose(question(quantised, tmp_path))
    assert len(sizes) == 1 and not sizes[0].exists()
    assert copies.read_source(Path(choice.path)).n_layers == copies.read_source(quantised).n_layers == 2


@pytest.mark.parametrize(("type", "formats"), [("Q4_1", ["F16", "Q8_0"]), ("Q8_0", ["F16"]), ("F16", []), ("F32", [])])
def test_only_formats_that_keep_the_weights_are_offered(tmp_path, type, formats, monkeypatch):
    monkeypatch.setattr(copies, "_computes_bf16", lambda: False)
    spec = tiny_models.TinySpec(type=type, head_type=type)
    source = copies.read_source(tiny_models.write_model(tmp_path / "base.gguf", spec))
    assert copies.candidates(source, tmp_path) == formats


def test_no_copy_is_offered_that_memory_cannot_hold(quantised, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "free_memory", lambda: 1 << 20)
    assert copies.candidates(copies.read_source(quantised), tmp_path) == []


@pytest.mark.parametrize("format", ["F16", "BF16", "Q8_0"])
def test_a_copy_keeps_the_weights(quantised, tmp_path, format):
    out = tmp_path / "copy.gguf"
    copies.write_copy(copies.read_source(quantised), out, format, 1, whole=True)
    with GgufFile(quantised) as given, GgufFile(out) as copy:
        for name, tensor in given.tensors.items():
            before, after = given.dequantize(name), copy.dequantize(name)
            assert copy.tensors[name].type == (format if len(tensor.shape) > 1 else "F32")
            assert np.linalg.norm(after - before) <= 0.006 * np.linalg.norm(before)


def test_a_fast_copy_answers_for_the_given_model(quantised, opened, race, tmp_path):
    race(F16=2.0)
    given = opened(quantised)
    fast = opened(quantised, fast_copy=True, cache=tmp_path / "fast")
    assert fast.choice.format == "F16" and fast.info == given.info
    asked = [ScoredPrompt("a", segments(*CHAT), ("billing", "delivery"))]
    lora = tiny_models.write_lora(tmp_path / "lora.gguf", tiny_models.lora_pairs(tiny_models.TinySpec(), size=0.5), 8.0)
    for adapter in (None, lora):
        given.use_adapter(adapter)
        fast.use_adapter(adapter)
        base, copy = next(iter(given.score(asked))), next(iter(fast.score(asked)))
        assert copy.logprobs == pytest.approx(base.logprobs, rel=0.03)


# -- what prompts share


@pytest.mark.parametrize(
    ("a", "b", "limit", "common"),
    [
        ([1, 2, 3], [1, 2, 4], 9, 2),
        ([1, 2], [1, 2, 3], 9, 2),
        ([1, 2, 3], [1, 2, 3], 2, 2),
        ([], [1], 9, 0),
        ([2], [1], 9, 0),
    ],
)
def test_common_length(a, b, limit, common):
    assert common_length(a, b, limit) == common


def test_shared_length_leaves_every_prompt_a_token():
    assert shared_length([[1, 2, 3], [1, 2, 3, 4], [1, 2, 3]]) == 2


@pytest.mark.parametrize(
    "change",
    [
        "{",
        "[]",
        '{"format": 5}',
        {"n_parallel": 10**9},
        {"n_parallel": 0},
        {"n_threads": 99},
        {"format": "F16", "path": "/"},
    ],
    ids=str,
)
def test_a_choice_that_is_none_of_ours_is_made_again(bpe, tmp_path, change):
    asked = question(bpe, tmp_path)
    choice = probe.EngineChoice(probe.GIVEN, "elsewhere", 32, 1)
    entry = tmp_path / "entry.json"
    entry.write_text(to_json(choice))
    assert probe._remembered(entry, asked) == dataclasses.replace(choice, path=str(bpe))
    entry.write_text(change if isinstance(change, str) else json.dumps({**dataclasses.asdict(choice), **change}))
    assert probe._remembered(entry, asked) is None
