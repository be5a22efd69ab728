"""Export: adapter GGUF, fused GGUFs and folders that carry the task and pass a parity gate, Modelfile, model card.

Re-quantising a merged base to its own type erases a fine-tune without a word; here every fused file is measured
against base + adapter before it gets its name. Not covered: adapters other than LoRA on the blocks' seven matrices,
models other than the dense ones of gguf.architectures. `refuse_early` says before any work whether a base and settings
can lead to an export: a preflight calls it.
"""

from sg_local.export.carried import still_shown, told_of_rows
from sg_local.export.job import (
    Check,
    Export,
    ExportEvent,
    ExportReport,
    ExportSettings,
    FusedFile,
    FusedFolder,
    OnEvent,
)
from sg_local.export.ollama import ModelfileParts, modelfile
from sg_local.export.provenance import Inspection, inspect, provenance_fields
from sg_local.export.refusals import missing_libraries, refuse_early
from sg_local.export.stage import add_scores, as_json, export, passed_files
from sg_local.export.template import task_template

__all__ = [
    "Check",
    "Export",
    "ExportEvent",
    "ExportReport",
    "ExportSettings",
    "FusedFile",
    "FusedFolder",
    "Inspection",
    "ModelfileParts",
    "OnEvent",
    "add_scores",
    "as_json",
    "export",
    "inspect",
    "missing_libraries",
    "modelfile",
    "passed_files",
    "provenance_fields",
    "refuse_early",
    "task_template",
    "still_shown",
    "told_of_rows",
]
