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

from sg_local.synth.inputs import write_inputs
from sg_local.synth.job import InputGate, OnEvent, Synthesis, SynthEvent, SynthSettings, rule_of
from sg_local.synth.outputs import answer, write_candidates

__all__ = [
    "InputGate",
    "OnEvent",
    "SynthEvent",
    "SynthSettings",
    "Synthesis",
    "answer",
    "rule_of",
    "synthesise",
    "write_candidates",
    "write_inputs",
]


def synthesise(job: Synthesis, on_event: OnEvent) -> None:
    """Fill inputs.jsonl and candidates.jsonl, going on where an earlier try stopped.

    Raises SgError when hardly any input passes the gate; everything made so far stays on disk.
    """
    write_inputs(job, on_event)
    write_candidates(job, on_event)
