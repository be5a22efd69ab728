"""The trials of a search for settings: where they are made, with what, and what each one scored.

The search's folder holds search.json (what every trial was made with), trials.jsonl, preset.toml and one run for each
task and temperature, in which training and evaluation are made again for each number of epochs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sg_local.files import remove
from sg_local.job import presets
from sg_local.job.base import find_base
from sg_local.job.begun import job_for_task
from sg_local.job.events import Listener
from sg_local.job.options import Home, Options
from sg_local.job.search import TRIALS, Search, SearchOutcome, SearchSettings, Setting, Trial, grid, search
from sg_local.job.stages import perform
from sg_local.records import NoRows, SgError, Task, digest
from sg_local.report import read_report
from sg_local.run import Run, check_name, differences, read_json

STAGES = ("synth", "filter", "train", "eval")
FACTS, PRESET, NAME = "search.json", "preset.toml", "tune-settings"

Telling = Callable[[str], AbstractContextManager[Listener]]
"""A trial's title -> a listener for its stages, as long as the context lasts."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where the search works: its folder, the dev tasks by name, the options of every trial, who is told."""

    run: Run
    tasks: Mapping[str, Task]
    options: Options
    home: Home
    telling: Telling
    say: Callable[[str], None]


def bench(tasks: Sequence[Task], options: Options, home: Home, telling: Telling, say: Callable[[str], None]) -> Bench:
    """The search's folder and tasks; SgError (usage) for tasks that cannot be told apart or judged."""
    for task in tasks:
        if not task.tests:
            hint = "Add [[tests]]: settings are judged on them."
            raise SgError(f"Task {task.name} has no test rows.", hint, exit_code=2)
    by_name = {check_name(task.name): task for task in tasks}
    if len(by_name) < len(tasks):
        raise SgError("Two of the tasks have the same name.", "Name each task once.", exit_code=2)
    root = Run(options.runs / check_name(options.name or NAME))
    if root.exists():
        raise SgError(f"{root.name} is a run, not a search.", "Use another `name`.", exit_code=2)
    return Bench(root, by_name, options, home, telling, say)


def try_all(at: Bench, settings: SearchSettings) -> SearchOutcome:
    """Every trial that is needed, going on where an earlier search stopped. Hold the folder's lock."""
    check_facts(at)
    rows = ", ".join(f"{len(task.tests)} of {name}" for name, task in at.tasks.items())
    at.say(f"Settings are chosen on test rows: {rows}. They prove nothing on these tasks any more.")
    n_most = len(grid(settings)) * len(at.tasks)
    return search(Search(at.run, tuple(at.tasks), settings, lambda task, one: attempt(at, task, one, n_most)))


def check_facts(at: Bench) -> None:
    """Note what trials are made with, or hold it against what earlier ones were made with; `redo` starts anew."""
    options = at.options
    base = find_base(options.model, options.backend, at.home)
    facts = {key: getattr(options, key) for key in ("backend", "trainer", "form", "seed", "preset")}
    facts |= {"model": [base.name, str(base.path)], "set": options.settings}
    facts |= {f"task {name}": digest(dataclasses.asdict(task)) for name, task in at.tasks.items()}
    if options.redo:
        _clear(at.run)
    path = at.run.path(FACTS)
    old = read_json(path) if path.exists() else {}
    before, now = ({"settings": {key: one[key] for key in facts if key in old}, "reads": {}} for one in (old, facts))
    different = differences(before, now)
    if different:
        hint = "Use another `name` for a new search, or `redo` to start this one again."
        raise SgError(f"Search {at.run.name} was made with {different} ({path}).", hint)
    at.run.write_json(FACTS, {**old, **facts})


def _clear(run: Run) -> None:
    """Take away everything that a search made, its lock excepted."""
    for path in run.root.iterdir() if run.root.is_dir() else ():
        if path.name != ".lock":
            remove(path)


def attempt(at: Bench, name: str, setting: Setting, n_most: int) -> Trial:
    """One trial: the stages in the run of this task and temperature. Too few rows count as a failed trial."""
    n_done = len(at.run.read(TRIALS, Trial))
    drawn = f"temperature {setting.temperature:g}, epochs {setting.epochs:g}"
    title = f"trial {n_done + 1} of at most {n_most}: {name}, {drawn}"
    at.say(title)
    tried = {"synth": {"temperature": setting.temperature}, "train": {"epochs": setting.epochs}}
    options = dataclasses.replace(
        at.options,
        runs=at.run.root,
        name=f"{name}-t{setting.temperature:g}",
        settings=presets.merged(at.options.settings, tried),
        redo=True,
    )
    trial = Trial(name, setting.temperature, setting.epochs)
    with job_for_task(at.tasks[name], options, at.home) as job, job.lock():
        try:
            with at.telling(title) as tell:
                job.run.clear_stage("eval")  # what the base has answered before stays in the journal of answers
                for stage in STAGES:
                    perform(job, stage, tell)
        except NoRows as error:
            at.say(f"This setting is out: {error.message}")
            return dataclasses.replace(trial, failed=error.message)
        return dataclasses.replace(trial, **_scores(job.run))


def _scores(run: Run) -> dict[str, Any]:
    """The served system's score and that of its rival, as the report has them."""
    report = read_report(run)
    assert report.main is not None
    base = report.main.base
    return {
        "base": report.systems[base].score,
        "tuned": report.systems[report.served].score,
        "base_system": base,
        "tuned_system": report.served,
        "n_tests": report.n,
        "n_rows": report.n_training,
    }
