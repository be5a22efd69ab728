"""How a job is opened from Python: a task read, a run begun or gone on with (face.Job).

Of the environment only the folders of models and caches are read, and `home` names others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sg_local.home import folders, tell_nobody
from sg_local.job import presets
from sg_local.job.asking import job_for_base
from sg_local.job.begun import job_for_run, job_for_task
from sg_local.job.budget import budget_of
from sg_local.job.face import Job, check_options
from sg_local.job.options import Home, Options, Tables
from sg_local.records import Task
from sg_local.tables import Columns

ASKING = ("endpoint", "allow_remote")
"""Options that say which server writes, and that it may be another machine."""

TaskLike = Task | str | Path | Mapping[str, Any]


def load_task(
    source: TaskLike, tests: int | str | Path | None = None, columns: Mapping[str, str] | None = None
) -> Task:
    """A task from a file (.toml, or Super-NaturalInstructions .json), a shipped task's name, or a mapping.

    A mapping has the keys of a task file: instruction, examples, kind, labels, tests, name, schema. `tests` draws so
    many of its test rows, always the same ones, or is a file of test rows that take their place; `columns` says which
    of that file's columns are meant, such as {"input": "Body", "output": "Team"}.

    Raises SgError for what is missing or malformed.
    """
    from sg_local import tasks

    check_options(columns or {}, "columns", {"input", "output"})
    said = Columns(**(columns or {}))
    if isinstance(tests, str):
        tests = Path(tests)
    if isinstance(source, Task):
        return tasks.with_tests(source, tests, said)
    if isinstance(source, Mapping):
        return tasks.with_tests(tasks.task_from(source), tests, said)
    return tasks.load_task(str(source), tests, said)


def open_job(
    task: TaskLike,
    *,
    model: str | Path | None = None,
    settings: Tables | None = None,
    runs: str | Path = "runs",
    name: str | None = None,
    home: str | Path | None = None,
    base: bool = False,
    inputs: str | Path | None = None,
    rows: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    budget: Mapping[str, str] | None = None,
    **options: Any,
) -> Job:
    """The job of a task: the run of this name in the folder `runs` goes on, or a new one is begun.

    `model` is a known model's name or the path of a GGUF file (None: the embedded SmolLM2-135M); `name` defaults to
    task and model; `settings` holds stage settings, such as {"synth": {"n_inputs": 80}, "train": {"epochs": 2}};
    `home` holds models and caches. Further options: `seed` (int), `preset` ("recommended", "lean", "paper", a file),
    `form` ("auto", "chat", "plain"), `backend` and `trainer` (by name), and `redo` (make again what was made
    otherwise). With backend "openai" the server at `endpoint` writes; `allow_remote` lets that be another machine.

    `inputs` is a file of your own unlabelled inputs, which take the place of invented ones; `rows` one of labelled
    rows, which train, and measure where the task has no test rows; `columns` says which columns are meant, such as
    {"input": "Body", "output": "Team"}. The run keeps a copy: going on needs no file.

    `budget` is what the whole job may take, such as {"ram": "12G", "disk": "15G", "time": "45m"}: rows, epochs, batch
    and other settings that were not given are chosen to fit, or SgError says what would.

    With `base` the job asks the untuned model alone, of any architecture that the engine runs: `predict`,
    `predict_proba` and `evaluate_base` answer, and no stage works.

    Nothing is written before a stage runs. Raises SgError for what does not exist, and where the run was made from
    another task, model, seed or form.
    """
    check_options(options, "open_job", {"seed", "preset", "form", "backend", "trainer", "redo", *ASKING})
    chosen = {**options, "model": model, "name": name, "inputs": inputs, "rows": rows}
    found = _options(Path(runs), settings or {}, chosen, columns or {}, budget or {})
    return Job((job_for_base if base else job_for_task)(load_task(task), found, _home(home)))


def _options(
    runs: Path, settings: Tables, chosen: dict[str, Any], columns: Mapping[str, str], budget: Mapping[str, str]
) -> Options:
    """Options as the job room has them; what is None in `chosen` was not given."""
    check_options(columns, "columns", {"input", "output"})
    check_options(budget, "budget", {"ram", "disk", "time"})
    endpoint, allow_remote = (chosen.pop(name, None) for name in ASKING)
    for key, kind in (("model", str), ("inputs", Path), ("rows", Path)):
        chosen[key] = None if chosen[key] is None else kind(chosen[key])
    given = frozenset(("tests", *(key for key, value in chosen.items() if value is not None)))  # a Task brings its rows
    return Options(
        runs=runs,
        settings=presets.with_endpoint(settings, endpoint),
        given=given,
        own_columns=",".join(f"{role}={name}" for role, name in columns.items()),
        budget=budget_of(**{"ram": None, "disk": None, "time": None, **budget}),
        reach="anywhere" if allow_remote else "here",
        **chosen,
    )


def load(run: str | Path, *, runs: str | Path = "runs", home: str | Path | None = None) -> Job:
    """A run that exists: by its name in the folder `runs`, or by its folder's path. Raises SgError without one."""
    path = Path(run)
    folder, name = (path.parent, path.name) if path.name != str(run) else (Path(runs), str(run))
    return Job(job_for_run(name, Options(runs=folder), _home(home)))


def _home(home: str | Path | None) -> Home:
    tell_nobody()
    if home is not None:
        return Home(Path(home).expanduser())
    found = folders()
    return Home(found.data, models=found.models)
