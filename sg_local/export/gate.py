"""The parity gate: does a fused file still know what base + adapter knew?

A reference is taken once from the base with and without the adapter; each file is then held to it: it loads and
answers in a process of its own (a ggml assertion ends the process it happens in), its metadata differs only where it
should, each touched tensor holds the delta, tokens are the same, and loss and greedy answers stay close.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sg_local.backends import EngineSettings, Generator, open_generator
from sg_local.backends.together import together
from sg_local.export.job import Check, Export, unmeasured
from sg_local.export.loss import NO_ROWS, check_lost, told_without
from sg_local.export.naming import NAMES
from sg_local.export.rows import held_out_inputs, held_out_rows, own_rows
from sg_local.gguf import GgufFile, Retained
from sg_local.prompts import (
    Form,
    Room,
    answer_prompt,
    answer_room,
    answer_stops,
    answer_text,
    answer_tokens,
    fitted_answer,
    parse_output,
    render,
)
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segments, Task

ALLOWED = ("general.file_type", "general.quantization_version", "tokenizer.chat_template", *NAMES)
OURS = ("sg_local.", "quantize.imatrix.")
LOAD_TIMEOUT_S = 900
LOADS = "loads and answers"
CLOSE_NLL, CLOSE_SHARE = 0.05, 0.01  # nats per token, and share: where the adapter gains nothing, the room to lose
NEAR_TIE = 0.5  # nats for a whole answer: what quantised arithmetic moves a label's score by, measured


@dataclass(frozen=True)
class Reference:
    """What the base says without (`base_nll`) and with the adapter, and how the base tokenises the task's prompts.

    Losses are nats per token over `n_rows` validation rows, None where there are none. `n_equal_without` of the
    adapter's answers are the same without the demonstrations, where these are left out. `own` are its answers to the
    rows on which a file may lose so much and no more, where that is asked for.
    """

    add_bos: bool
    n_rows: int
    base_nll: float | None
    adapter_nll: float | None
    answers: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    n_equal_without: int | None = None
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What one file's gate found: the table, and the figures behind it."""

    checks: tuple[Check, ...]
    nll: float | None
    equal_answers: float | None


def take_reference(job: Export) -> Reference:
    """Ask the base, then base + adapter. Raises SgError when the engine is missing or the adapter does not fit."""
    with opened(job, job.base) as generator:
        tokens = tuple(generator.tokenize(prompt) for prompt in example_prompts(job))
        base_nll = mean_nll(job, generator)
        generator.use_adapter(job.adapter)
        with together(generator):
            adapter_nll, answers = mean_nll(job, generator), greedy_answers(job, generator)
        n_rows, n_equal = len(held_out_rows(job)), None
        if job.settings.without_demonstrations:
            n_equal = sum(map(str.__eq__, answers, greedy_answers(job, generator, job.carried)))
        own = own_answers(job, generator)
        return Reference(generator.info.add_bos, n_rows, base_nll, adapter_nll, answers, tokens, n_equal, own)


def run_gate(job: Export, path: Path, reference: Reference, retained: Sequence[Retained]) -> Findings:
    """Hold one file to the reference."""
    loads = check_loads(job, path)
    checks = [loads, check_metadata(job, path), check_retained(job, retained)]
    if not loads.passed:
        return Findings(tuple(checks), None, None)
    with opened(job, path) as generator:
        checks.append(check_tokens(job, generator, reference))
        with together(generator):
            nll, answers = mean_nll(job, generator), greedy_answers(job, generator)
        ties = near_ties(job, generator, answers, reference.answers)
        own = own_answers(job, generator)
        asked = [row.input for row in own_rows(job)[: len(own)]] if own else []
        lost = check_lost(job, own, reference.own, tied_rows(job, generator, asked, (own, reference.own)))
    n_equal, n_answers = sum(map(str.__eq__, answers, reference.answers)), len(answers)
    checks += [
        check_nll(job, reference, nll),
        check_answers(job, n_equal, ties, n_answers),
        *lost,
        *told_without(reference),
    ]
    return Findings(tuple(checks), nll, n_equal / n_answers if n_answers else None)


def check_loads(job: Export, path: Path) -> Check:
    """Open the file in a new process and let it answer the first example's input."""
    segments = [[segment.text, segment.trusted] for segment in example_prompts(job)[0]]
    facts = {"engine": job.engine, "model": str(path), "n_ctx": job.settings.n_ctx, "cache": job.cache}
    request = json.dumps({**facts, "segments": segments}, default=str)
    command = [sys.executable, "-m", "sg_local.export.loading"]
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Check(LOADS, False, f"no answer in {LOAD_TIMEOUT_S} s", "in a process of its own")
    if done.returncode == 0:
        said = "an answer" if job.settings.without_demonstrations else brief(json.loads(done.stdout)["text"])
        return Check(LOADS, True, said, "in a process of its own")
    last = (done.stderr.strip() or "no message").splitlines()[-1]
    return Check(LOADS, False, f"exit {done.returncode}: {last}", "in a process of its own")


def check_metadata(job: Export, path: Path) -> Check:
    """Every entry of the source must stand in the file byte for byte, but for the few that an export sets."""
    with GgufFile(job.source) as old, GgufFile(path) as new:
        changed = [
            key for key, entry in old.fields.items() if key not in new.fields or new.fields[key].raw != entry.raw
        ]
        added = [key for key in new.fields if key not in old.fields]
    strange = [key for key in (*changed, *added) if key not in ALLOWED and not key.startswith(OURS)]
    value = f"{strange[0]} differs" if strange else f"{len(changed)} changed, {len(added)} added"
    return Check("metadata", not strange, value, "only names, file type, template, quantize.imatrix.* and sg_local.*")


def check_retained(job: Export, retained: Sequence[Retained]) -> Check:
    """The share of touched tensors that hold the delta."""
    settings = job.settings
    kept = sum(row.share >= settings.min_retained for row in retained)
    lowest = min(retained, key=lambda row: row.share)
    value = f"{kept} of {len(retained)} tensors, median {statistics.median(r.share for r in retained):.1%}"
    if kept < len(retained):
        value += f", lowest {lowest.share:.1%} ({lowest.name})"
    wanted = f">= {settings.min_retained:.0%} on {settings.min_tensors:.0%} of tensors"
    return Check("delta retained", kept >= settings.min_tensors * len(retained), value, wanted)


def check_tokens(job: Export, generator: Generator, reference: Reference) -> Check:
    """The file tokenises our prompts as the base does, and its own template makes the same ids of a bare input."""
    prompts = example_prompts(job)
    ours = [generator.tokenize(prompt) for prompt in prompts]
    same = sum(a == b for a, b in zip(ours, reference.tokens, strict=True))
    value, passed = f"{same} of {len(prompts)} prompts", same == len(prompts)
    if not job.settings.plain_template:
        carried = [bare_tokens(generator, pair.input) for pair in job.task.examples]
        n_carried = sum(a == b for a, b in zip(carried, carried_tokens(job, generator), strict=True))
        value += f", {n_carried} by the file's template from the bare input"
        passed = passed and n_carried == len(prompts)
    return Check("token ids equal", passed, value, "all")


def carried_tokens(job: Export, generator: Generator) -> list[tuple[int, ...]]:
    """Ids of the prompts that an exported file's template is to make of the examples' bare inputs."""
    return [generator.tokenize(answer_prompt(job.carried, job.form, pair.input)) for pair in job.task.examples]


def bare_tokens(generator: Generator, text: str) -> tuple[int, ...]:
    """Ids of a bare user message through the model file's own chat template."""
    info = generator.info
    form = Form("chat", info.chat_template or "", info.bos, info.eos, add_bos=info.add_bos)
    return generator.tokenize(render(form, [{"role": "user", "content": text}]))


def check_nll(job: Export, reference: Reference, nll: float | None) -> Check:
    """The share of the adapter's gain in validation loss that the file keeps."""
    base, tuned = reference.base_nll, reference.adapter_nll
    if nll is None or base is None or tuned is None:
        return unmeasured("validation loss", NO_ROWS)
    value = f"{nll:.3f} (base {base:.3f}, adapter {tuned:.3f} nats/token, {reference.n_rows} rows)"
    room = max(CLOSE_NLL, CLOSE_SHARE * tuned)
    if base - tuned <= room:
        return Check("validation loss", nll <= tuned + room, value, f"<= adapter + {room:.2f}")
    kept = (base - nll) / (base - tuned)
    wanted = f">= {job.settings.min_gain:.0%} of the gain kept"
    return Check("validation loss", kept >= job.settings.min_gain, f"{kept:.1%} kept: {value}", wanted)


def check_answers(job: Export, n_equal: int, n_ties: int, n_answers: int) -> Check:
    """The share of greedy answers that equal the adapter's; near ties count as equal, and are named."""
    if n_answers == 0:
        return unmeasured("greedy answers equal", NO_ROWS)
    value = f"{n_equal / n_answers:.0%} of {n_answers}" + (f", {n_ties} more are near ties" if n_ties else "")
    passed = (n_equal + n_ties) / n_answers >= job.settings.min_equal
    return Check("greedy answers equal", passed, value, f">= {job.settings.min_equal:.0%}")


def engine_settings(job: Export) -> EngineSettings:
    """How the gate opens a file."""
    return EngineSettings(n_ctx=job.settings.n_ctx, fast_copy=False, cache=job.cache, n_replicas=1)


@contextmanager
def opened(job: Export, model: Path) -> Iterator[Generator]:
    """A generator on the very file, never on a faster copy of it."""
    generator = open_generator(job.engine, model, engine_settings(job))
    try:
        yield generator
    finally:
        generator.close()


def example_prompts(job: Export) -> list[Segments]:
    """The prompts of training for the task's own example inputs."""
    return [answer_prompt(job.task, job.form, pair.input) for pair in job.task.examples]


def gate_room(job: Export, generator: Generator) -> Room:
    """The room of a prompt and its answer in the gate."""
    n_ctx = min(job.settings.n_ctx, generator.info.n_ctx_train)
    return answer_room(generator.tokenize, job.task, n_ctx, job.settings.max_tokens, "export")


def mean_nll(job: Export, generator: Generator) -> float | None:
    """Nats per token of the validation outputs and their end, given their prompts; None without rows."""
    rows, room = held_out_rows(job), gate_room(job, generator)
    asked, n_tokens = [], 0
    for i, pair in enumerate(rows):
        text = answer_text(job.form, pair.output)
        segments = fitted_answer(room.for_answer(text), job.task, job.form, pair.input).segments
        n_tokens += len(answer_tokens(generator.tokenize, segments, text)) + 1
        asked.append(ScoredPrompt(str(i), segments, (text,), end=True, ending=job.form.end))
    if not rows:
        return None
    return -sum(score.logprobs[0] for score in generator.score(asked)) / n_tokens


def greedy_answers(job: Export, generator: Generator, task: Task | None = None) -> tuple[str, ...]:
    """Greedy answers to the held-out inputs, in order, with the job's demonstrations or those of `task`."""
    return answers_to(job, generator, held_out_inputs(job), task)


def own_answers(job: Export, generator: Generator) -> tuple[str, ...]:
    """Greedy answers to the run's own rows, where a loss of score on them is to be measured; else none."""
    if job.settings.may_lose is None:
        return ()
    texts = answers_to(job, generator, [row.input for row in own_rows(job)])
    return tuple(parse_output(job.task, text, job.form.lead) for text in texts)


def answers_to(job: Export, generator: Generator, inputs: Sequence[str], task: Task | None = None) -> tuple[str, ...]:
    """Greedy answers, in order."""
    room = gate_room(job, generator)
    sampling = Sampling(max_tokens=room.n_new, stop=answer_stops(job.task, job.form))
    built = [fitted_answer(room, task or job.task, job.form, text).segments for text in inputs]
    asked = [Prompt(str(i), segments, sampling) for i, segments in enumerate(built)]
    texts = {done.prompt_id: done.text.strip() for done in generator.generate(asked)}
    return tuple(texts[str(i)] for i in range(len(inputs)))


def near_ties(job: Export, generator: Generator, ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many answers to the held-out inputs differ only because the model can hardly decide."""
    return len(tied_rows(job, generator, held_out_inputs(job), (ours, theirs)))


def tied_rows(job: Export, generator: Generator, inputs: Sequence[str], both: tuple[Sequence[str], ...]) -> set[int]:
    """Where the file finds the adapter's other answer within NEAR_TIE of its own (`both`: the file's, the adapter's).

    Rounding alone turns such an answer over, in any file and from one batch to the next.
    """
    rows, room = zip(inputs, *both, strict=True), gate_room(job, generator)
    prompts = [
        ScoredPrompt(
            str(i),
            fitted_answer(room, job.task, job.form, text).segments,
            (answer_text(job.form, one), answer_text(job.form, other)),
            end=True,
            ending=job.form.end,
        )
        for i, (text, one, other) in enumerate(rows)
        if one != other and one and other
    ]
    scores = generator.score(prompts)
    return {int(one.prompt_id) for one in scores if one.logprobs[0] - one.logprobs[1] <= NEAR_TIE}


def brief(text: str) -> str:
    """An answer on one line of the table."""
    line = " ".join(text.split())
    return repr(line if len(line) <= 40 else line[:39] + "…")
