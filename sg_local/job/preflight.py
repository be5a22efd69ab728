"""What would be refused later is refused before the first stage works: each check looks ahead at the stages to come.

Checks stand in the order of what they cost, and read headers alone: no engine is opened, no file is written. All that
they say holds before a row is written; what only rows or weights can show is left to the stages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sg_local import prompts
from sg_local.backends import GENERATORS, TRAINERS, find_backend, makes_weights, needs_model
from sg_local.backends.tokenizing import tokenizer
from sg_local.job.endpoint import check_named, check_offer
from sg_local.job.layouts import training_form, tuned_form
from sg_local.job.plan import GIVEN
from sg_local.models.find import check_trains
from sg_local.models.header import header_info
from sg_local.prompts import Form, TooLong
from sg_local.records import ModelInfo, Segments, SgError

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun


@dataclass(frozen=True)
class Ahead:
    """A job, and the stages that it is to do yet. Without stages only the model's and the task's own facts count."""

    job: OpenRun
    stages: Collection[str]

    @cached_property
    def info(self) -> ModelInfo:
        """The base as its header tells it."""
        return header_info(self.job.base.path)

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """Every form that the base can answer in."""
        return prompts.forms_of(self.info, self.job.base.template)

    @property
    def form(self) -> Form:
        """The form that the job uses."""
        return prompts.form_of(self.info, self.job.form_name, self.job.base.template)

    @property
    def tuned_form(self) -> Form:
        """The form that rows are to train in, or that the adapter trained in; without a run (`alone`) the base's."""
        if self.job.alone:
            return self.form
        trains = "train" in self.stages
        return (training_form if trains else tuned_form)(self.job, self.form)

    @property
    def exports(self) -> bool:
        """Whether files are to be exported."""
        return "export" in self.stages and makes_weights(self.job.trainer)


def check(job: OpenRun, stages: Collection[str]) -> None:
    """Raise the first SgError that one of the stages would come to. A job that is `alone` is never trained."""
    ahead = Ahead(job, stages)
    check_engines(ahead)
    check_planted(ahead)
    check_shown(ahead)
    check_tried(ahead)
    check_policy(ahead)
    if not needs_model(job.backend):
        return
    for one in CHECKS:
        one(ahead)


def check_engines(ahead: Ahead) -> None:
    """The engines are installed."""
    find_backend(GENERATORS, ahead.job.backend, "backend")
    check_named(ahead.job, ahead.stages)
    if "train" in ahead.stages:
        find_backend(TRAINERS, ahead.job.trainer, "trainer")


def check_planted(ahead: Ahead) -> None:
    """The evaluation can plant as many secrets as are asked for."""
    if "eval" in ahead.stages:
        from sg_local.evaluate import check_canaries

        check_canaries(ahead.job.plan["eval"].canaries)


def check_shown(ahead: Ahead) -> None:
    """Rows can be told how many examples to show."""
    if "train" in ahead.stages:
        prompts.numbers(ahead.job.plan["train"].shown)


def check_tried(ahead: Ahead) -> None:
    """The policies whose rows are to be tried are some that this kind of task has."""
    if "train" in ahead.stages:
        from sg_local.filters.policies import check_policies

        check_policies(ahead.job.plan["train"].policies, ahead.job.task)


def check_policy(ahead: Ahead) -> None:
    """The label policy is one that this kind of task has, and the rows will have what it goes by."""
    if "filter" not in ahead.stages:
        return
    from sg_local.filters.policies import check_policies

    policy, synth = ahead.job.plan["filter"].policy, ahead.job.plan["synth"]
    if ahead.job.plan.source("filter.policy") == GIVEN:  # settings of every job here are for tasks of both kinds
        check_policies([policy], ahead.job.task, "filter.policy")
    if policy == "ensemble" and "synth" in ahead.stages and not (synth.channel and synth.score_labels):
        hint = "Leave `synth.channel` and `synth.score_labels` on, or choose another `filter.policy`."
        raise SgError("The policy ensemble needs both scores of every label.", hint, exit_code=2)


def check_model(ahead: Ahead) -> None:
    """The model can be trained, where the job is to end in a tuned one."""
    if ahead.job.alone:
        return
    try:
        check_trains(ahead.job.base.path)
    except SgError as error:
        ask = f"It can be asked as it is: `predict {ahead.job.task.name}` with `base`."
        raise SgError(error.message, f"{error.hint} {ask}", exit_code=error.exit_code) from error


def check_settings(ahead: Ahead) -> None:
    """The training's settings are in their ranges, and this machine computes in the numbers that they ask for."""
    if "train" in ahead.stages:
        from sg_local.backends.training.lora import check_settings as check_training
        from sg_local.backends.training.precision import check_precision

        check_training(ahead.job.plan["train"])
        check_precision(ahead.job.plan["train"].precision, ahead.job.trainer)


def check_speed(ahead: Ahead) -> None:
    """Nothing is refused: MLX without a fast library for products is said to be slow before any work."""
    if "train" in ahead.stages and ahead.job.trainer == "mlx":
        from sg_local.backends.mlx.blas import is_slow, prefer_openblas

        told = f"The training will be tens of times slower than it could be: {prefer_openblas()}."
        ahead.job.said += [told] if is_slow() and told not in ahead.job.said else []


def check_form(ahead: Ahead) -> None:
    """The form asked for can be rendered, in the layout asked for."""
    _ = ahead.tuned_form


def check_exports(ahead: Ahead) -> None:
    """Types and folders can be made of this base, and its template can carry the task."""
    if ahead.exports:
        from sg_local import export

        settings = ahead.job.plan["export"]
        export.refuse_early(ahead.job.base.path, settings, ahead.job.task, ahead.tuned_form)
        for kind, missing in export.missing_libraries(settings).items():
            told = f"{' and '.join(missing)} not installed: the {kind} folder will be written, but not tried."
            ahead.job.said += [told] if told not in ahead.job.said else []


def check_rows(ahead: Ahead) -> None:
    """Every demonstration and test row fits the context, with room for its answer, in each form that is asked.

    The tokenizer is loaded only where a row has more bytes than the context has tokens.
    """
    examples, tests = ahead.job.task.examples, ahead.job.task.tests if "eval" in ahead.stages else ()
    rows = {f"Example {i}": pair.input for i, pair in enumerate(examples, 1)}
    rows |= {f"Test row {i}": row.input for i, row in enumerate(tests, 1)}
    doubtful = _too_long(ahead, rows, _byte_tokens)
    if doubtful:
        with tokenizer(ahead.job.base.path, ahead.job.plan["engine"].cache) as tokenize:
            found = _too_long(ahead, {name: rows[name] for name in doubtful}, tokenize)
        for name, error in found.items():
            raise SgError(f"{name}: {error.message}", error.hint, exit_code=2)


def _too_long(ahead: Ahead, rows: Mapping[str, str], tokenize: prompts.Tokenize) -> dict[str, TooLong]:
    """Those of the rows that fit no prompt, even without a demonstration, with what is said of each."""
    task, plan, found = ahead.job.task, ahead.job.plan, {}
    n_ctx = min(ahead.job.n_ctx, ahead.info.n_ctx_train)
    room = prompts.answer_room(tokenize, task, n_ctx, plan["eval"].max_tokens)
    asked = ahead.forms if "eval" in ahead.stages else (ahead.form,)
    for form in dict.fromkeys((*asked, ahead.tuned_form)):
        for name, text in rows.items():
            try:
                prompts.fitted_answer(room, task, form, text)
            except TooLong as error:
                found[name] = error
    return found


def _byte_tokens(segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
    """A token for each byte, and one more for each piece: as many as any tokenizer makes at most."""
    return tuple(range(sum(len(segment.text.encode("utf-8", "replace")) + 1 for segment in segments) + bos))


def check_budget(ahead: Ahead) -> None:
    """The stages stay within the job's budget of memory and disk, with other settings where nobody gave them."""
    if ahead.job.budget.ram_bytes is not None or ahead.job.budget.disk_bytes is not None:
        from sg_local.job.budget import fit_space

        fit_space(ahead.job, ahead.stages)


def check_memory(ahead: Ahead) -> None:
    """Each stage's memory is free."""
    from sg_local.job import resources  # loads NumPy

    resources.check_memory(ahead.job, ahead.stages)


def check_disk(ahead: Ahead) -> None:
    """What the stages write fits the disks together."""
    from sg_local.job import disk

    disk.check_disk(ahead.job, ahead.stages)


def check_endpoint(ahead: Ahead) -> None:
    """The endpoint answers, runs this base, and offers what the stages need."""
    check_offer(ahead.job, ahead.stages)


CHECKS = (
    check_settings,
    check_model,
    check_speed,
    check_form,
    check_exports,
    check_rows,
    check_budget,
    check_memory,
    check_disk,
    check_endpoint,
)
"""The checks of jobs that need a model file, the cheapest first."""
