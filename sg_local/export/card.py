"""The model card: README.md in the run folder, in the form that model hubs read (front matter, then Markdown)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sg_local import __version__
from sg_local.export.job import Export, ExportReport
from sg_local.export.loss import LOST
from sg_local.export.ollama import model_name
from sg_local.export.scores import bias_note, served_score
from sg_local.gguf import GgufFile, shown_facts
from sg_local.personal import sentence


def model_card(job: Export, report: ExportReport) -> str:
    """The card's text."""
    facts = shown_facts(job.facts)
    parts = [_front(job), f"# {' '.join(job.task.name.split())}\n", _what(job), _files(job, report), _use(job, report)]
    parts += [_task(job), _scores(facts.get("scores", {}), job.headline), _funnel(facts.get("funnel", {}))]
    parts += [_gates(report), _settings(facts.get("settings", {}))]
    return "\n".join(part for part in parts if part)


def _front(job: Export) -> str:
    licence = json.dumps(licence_of(job) or "unknown")
    return f"---\nlicense: {licence}\npipeline_tag: text-generation\ntags: [gguf, lora, sg-local]\n---\n"


def licence_of(job: Export) -> str:
    """The base's licence: as given, else as its GGUF says."""
    with GgufFile(job.base) as base:
        return job.licence or base.value("general.license", "")


def _what(job: Export) -> str:
    base = job.base_name or job.base.stem
    n = len(job.task.examples)
    funnel = job.facts.get("funnel") or {}
    judged = ", and people judged some of them" if funnel.get("people") else ""
    if given := _given(funnel):
        judged += f"; {given} took part"
    return (
        f"A LoRA finetune of {base} for one task, made by sg-local {__version__} from the task's instruction and "
        f"{n} {'example' if n == 1 else 'examples'}: the model wrote and answered its own training inputs{judged} "
        "(SELF-GUIDE, arXiv 2407.12874).\n\n"
        f"The base's licence ({licence_of(job) or 'not recorded in the file'}) applies to these files, too.\n"
    )


def _given(funnel: Mapping[str, Any]) -> str:
    """What a person gave besides instruction and examples, in words."""
    given = {"inputs": funnel.get("own", 0), "labelled rows": funnel.get("labelled", 0)}
    return " and ".join(f"{n} of a person's own {what}" for what, n in given.items() if n)


def _files(job: Export, report: ExportReport) -> str:
    rows = [("base, not included", job.base.name, job.base_digest, "", "", "")]
    rows.append((report.adapter, "LoRA adapter", report.adapter_sha256, "", "", ""))
    for fused in report.fused:
        note = "" if fused.passed else " (**failed its gate**)"
        figures = (f"{fused.retained['mean']:.1%}", served_score(job.file_scores.get(fused.sha256)))
        size = f"{fused.size_bytes / 1e6:.1f} MB"
        rows.append((fused.file, f"merged, {fused.type}{note}", fused.sha256, size, *figures))
    kinds = {"mlx": "merged, float16, for mlx-lm", "hf": "merged, float16, and a peft adapter, for transformers"}
    for folder in report.folders:
        note = "" if folder.passed else " (**failed its gate**)"
        size, kept = f"{folder.size_bytes / 1e6:.1f} MB", f"{folder.retained['mean']:.1%}"
        rows.append((Path(folder.path).name, kinds[folder.kind] + note, "", size, kept, ""))
    return "## Files\n" + _table(("file", "what", "SHA-256", "size", "delta kept", "score"), rows) + _of_scores(job)


def _of_scores(job: Export) -> str:
    """What the files' scores are, where there are any, and in which prompts they and a loss were measured."""
    scores, bare = list(job.file_scores.values()), job.settings.without_demonstrations
    said, told = [], []
    if scores:
        one = next(iter(scores[0].systems.values()))
        said.append(f"Scores are each file's own answers to {one.n} held-out rows, in percent, with 95 % intervals.")
        told.append("these scores")
    if job.settings.may_lose is not None:
        told.append(f'"{LOST}"')
    if bare and told:
        told_of = " and ".join(told)
        said.append(
            f"Prompts with the task's examples gave {told_of}; the files' own template has none: "
            "what they lose by that is not in these figures."
        )
    return "\n" + " ".join(said) + "\n" if said else ""


def _use(job: Export, report: ExportReport) -> str:
    passed = [fused for fused in report.fused if fused.passed]
    whole = "instruction, examples and input" if job.form.shown(job.task.examples) else "instruction and input"
    carries = not job.settings.plain_template
    lines = ["## Use\n"]
    if passed and carries:
        shown = "instruction and examples" if job.carried.examples else "the instruction"
        lines += [
            f"The merged files carry the task: their chat template puts {shown} in front of a bare",
            "user message, as in training. Send just the input, at temperature 0.\n",
        ]
    elif passed:
        lines += [f"The merged files keep the base's chat template: send {whole}.\n"]
    if passed:
        lines += [f"    llama-cli -m {passed[0].file} --jinja --temp 0\n"]
    folders = [folder for folder in report.folders if folder.passed]
    if folders:
        lines += ["The folders are loaded by their path, and carry the task in the same way.\n" if carries else ""]
        lines += [_FOLDER_USE[folder.kind].format(path=Path(folder.path).name) for folder in folders]
    lines += [
        f"The adapter works on its base alone, and wants the whole prompt: {whole}.",
        "The Modelfile includes the prompt.\n",
        f"    llama-cli -m {job.base.name} --lora {report.adapter} --temp 0 -f PROMPT.txt",
        f"    ollama create {model_name(job.task)} -f Modelfile && ollama run {model_name(job.task)}\n",
    ]
    return "\n".join(lines) + bias_note(job)


_FOLDER_USE = {
    "mlx": "    mlx_lm.generate --model {path} --temp 0 --prompt INPUT\n",
    "hf": '    transformers.pipeline("text-generation", "{path}", do_sample=False)\n',
}


def _task(job: Export) -> str:
    shown = "\n\n".join(
        f"{_block('Input: ' + pair.input)}\n\n{_block('Output: ' + pair.output)}" for pair in job.carried.examples
    )
    trained_with = job.form.shown(job.task.examples)
    if not trained_with:
        shown = "None: the model was trained to answer without any."
    elif not job.carried.examples:
        shown = (
            f"Left out: the {len(trained_with)} that were in every training prompt. "
            "The parity table says how many answers stay the same without them."
        )
    labels = f"\n\nLabels: {', '.join(job.task.labels)}" if job.task.labels else ""
    return f"## Task\n\n{_block(job.task.instruction)}{labels}\n\nExamples:\n\n{shown}\n"


def _scores(scores: Mapping[str, Any], headline: str) -> str:
    systems = scores.get("systems")
    if not systems:
        return ""
    rows = [
        (row.get("title", name), f"{row['score']:.1f}", f"{row.get('low', 0):.1f} to {row.get('high', 0):.1f}")
        for name, row in systems.items()
    ]
    said = f"{headline}\n\n" if headline else ""
    head = f"## Scores\n\n{said}{scores['metric']} on {scores['n']} held-out rows, in percent.\n"
    learnt = "".join(f"\n{sentence}\n" for sentence in scores.get("memory", ()))
    return head + _table(("system", "score", "95 % interval"), rows) + learnt


def _funnel(funnel: Mapping[str, Any]) -> str:
    if not funnel:
        return ""
    steps = {key: value for key, value in funnel.items() if isinstance(value, (int, float)) and key not in _TOLD}
    rows = list(steps.items())
    rows += [(f"dropped by {rule}", count) for rule, count in (funnel.get("rules") or {}).items()]
    private = sentence(funnel.get("flagged", 0), funnel.get("personal") or {}, "rows that the adapter was trained on")
    anew = "The model of a first, short training gave these rows their labels." if funnel.get("relabelled") else ""
    told = "\n".join(filter(None, (_writers(funnel.get("people") or {}, _given(funnel)), anew, private)))
    return f"## Data\n\n{told}\n" + _table(("rows", "count"), rows)


_TOLD = ("by_person", "flagged", "relabelled")
"""Counts that stand in sentences."""


def _writers(people: Mapping[str, int], given: str = "") -> str:
    """Who wrote the training rows, and what people did to them."""
    if not people and given:
        return f"The base model wrote the training rows, but for {given}; no person judged any."
    if not people:
        return "Every training row was written by the base model itself; no person judged any."
    done = [f"{people[what]} {words}" for what, words in _DECISIONS.items() if people.get(what)]
    changed = people.get("edited", 0) + people.get("relabelled", 0)
    own = f"{changed} of the rows" if changed else "None of the rows"
    return (
        f"The base model wrote the rows, and people judged {sum(people.values())} of them: {', '.join(done)}. "
        f"{own} that trained the adapter {'hold' if changed else 'holds'} a person's words or label."
    )


_DECISIONS = {
    "accepted": "accepted unchanged",
    "edited": "edited",
    "relabelled": "given another label",
    "rejected": "rejected",
}


def _gates(report: ExportReport) -> str:
    made = [(fused.file, fused.checks) for fused in report.fused]
    made += [(Path(folder.path).name, folder.checks) for folder in report.folders]
    if not made:
        return ""
    parts = ["## Parity with base + adapter\n"]
    for name, checks in made:
        rows = [
            (check.name, check.value, check.wanted, "**no**" if check.verdict == "no" else check.verdict)
            for check in checks
        ]
        parts.append(f"### {name}\n" + _table(("check", "found", "wanted", "passed"), rows))
    return "\n".join(parts)


def _settings(settings: Mapping[str, Any]) -> str:
    if not settings:
        return ""
    lines = []
    for stage, values in settings.items():
        lines += [f"[{stage}]", *(f"{key} = {_toml(value)}" for key, value in values.items() if value is not None), ""]
    return "## Settings\n\n" + _block("\n".join(lines).rstrip()) + "\n"


def _toml(value: Any) -> str:
    """A setting as TOML has it, tables on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items() if item is not None) + "}"
    return json.dumps(value, ensure_ascii=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def _block(text: str) -> str:
    """Text as an indented block, so that nothing in it is read as Markdown."""
    return "\n".join(("    " + line).rstrip() for line in text.split("\n"))
