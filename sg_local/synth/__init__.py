"""SELF-GUIDE's two passes: the model writes inputs (stage A), then answers them by vote (stage B).

Method: Zhao et al., COLM 2024, arXiv 2407.12874. Stage A works in rounds: each prompt shows the demonstrations
and some inputs that were accepted in earlier rounds. Stage B draws several answers to every accepted input and
keeps the majority; for classification it also scores every label, so that the filters can choose a label policy
without a model. Beyond the paper, each with its switch in SynthSettings: asking in the `continue` style (output
first), labels asked in proportion to what is still missing, near duplicates kept out while generating, and a
temperature that rises with the share of duplicates.

Both journals are filled in a fixed order, round by round and chunk by chunk, and each sampling seed derives from
the row's id. A run that was killed computes the unfinished round or chunk again and appends what is missing, so it
ends with the same bytes as an uninterrupted one, as far as the engine repeats its arithmetic.
"""

from __future__ import annotations

from sg_local.records import OWN
from sg_local.synth.given import Given, GivenGate, GivenRow, as_pool, is_enough, write_given
from sg_local.synth.inputs import write_inputs
from sg_local.synth.job import InputGate, OnEvent, Synthesis, SynthEvent, SynthSettings, rule_of
from sg_local.synth.outputs import answer, candidate_id, write_candidates

NOTHING = Given()

__all__ = [
    "Given",
    "GivenGate",
    "GivenRow",
    "InputGate",
    "OnEvent",
    "SynthEvent",
    "SynthSettings",
    "Synthesis",
    "answer",
    "rule_of",
    "synthesise",
    "write_candidates",
    "write_given",
    "write_inputs",
]


def synthesise(job: Synthesis, on_event: OnEvent, given: Given = NOTHING) -> None:
    """Fill inputs.jsonl and candidates.jsonl, going on where an earlier try stopped.

    Raises SgError when hardly any input passes the gate; everything made so far stays on disk. Raises MadeOtherwise
    where the journals were begun with other given rows or for another task.
    """
    rows = write_given(job, given)
    if any(row.source == OWN for row in rows) and not is_enough(job.settings, rows):
        write_candidates(job, on_event)  # stage A goes on from answered inputs
        rows = as_pool(job.run, given, rows, candidate_id)
    write_inputs(job, on_event, rows)
    write_candidates(job, on_event)
