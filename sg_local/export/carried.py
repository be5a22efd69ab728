"""What exported files show of a task's rows, said when they are made."""

from __future__ import annotations

import re
from collections.abc import Collection

from sg_local.export.job import Export
from sg_local.gguf import GgufFile
from sg_local.records import SgError
from sg_local.words import counted

TEMPLATE = "tokenizer.chat_template"
TELLING = 6
"""Characters of a demonstration that no template has by chance."""


def told_of_rows(job: Export) -> str:
    """One sentence on the demonstrations inside what is exported; empty for a task that has none."""
    if not job.form.shown(job.task.examples):
        return ""
    if job.settings.without_demonstrations:
        return "the examples are left out of the export; the model was trained with them, so see the table for the cost"
    merged = (job.settings.types or job.settings.mlx or job.settings.hf) and not job.settings.plain_template
    places = ["the merged files' chat template"] if merged else []
    return (
        f"anyone who gets the files can read the task's {counted(len(job.carried.examples), 'example')}, in "
        f"{', '.join([*places, 'Modelfile'])} and README.md; export.without_demonstrations=true leaves them out"
    )


def still_shown(job: Export, made: Collection[str] = ()) -> list[str]:
    """The files in the run's folder, those now `made` aside, whose chat templates hold a demonstration: earlier
    exports, and refused ones.
    """
    # What stands between quotes and line ends, since a template escapes these.
    fragments = [max(re.split(r"[\\'\"\n\r\t]", pair.input), key=len) for pair in job.form.shown(job.task.examples)]
    found = []
    for path in sorted(path for path in job.run.root.glob("*.gguf*") if path.name not in made):
        try:
            with GgufFile(path) as file:
                template = str(file.value(TEMPLATE, ""))
        except SgError:  # no whole GGUF: half a file of a killed try
            continue
        if any(len(fragment) >= TELLING and fragment in template for fragment in fragments):
            found.append(path.name)
    return found
