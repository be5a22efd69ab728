"""What an export refuses by its base and its settings alone: known before there is an adapter, or any work at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sg_local.export.folder_gate import missing_packages
from sg_local.export.huggingface import PROVENANCE, check_source
from sg_local.export.job import ExportSettings
from sg_local.export.template import task_template
from sg_local.gguf import EXPORT_TYPES, FLOATS, WEIGHTED_TYPES, GgufFile, check_model, read_config
from sg_local.prompts import Form
from sg_local.records import SgError, Task


def refuse_early(base: Path, settings: ExportSettings, task: Task | None = None, form: Form | None = None) -> None:
    """Raise SgError for what no adapter could make an export of this base with these settings do.

    Looked at are the types' names, the folders' places, what a folder's config and tokenizer can say of the base, the
    unquantised source, and, where `task` and `form` (in the layout of training) are given, whether the chat template
    can carry the task, or ask without it. Only headers are read, a source's weights apart: it takes well under a
    second. Beyond it stand gguf.check_trainable, which the base must pass for the training's sake, and the room on the
    disk.
    """
    check_types(settings.types)
    folders = wanted_folders(settings)
    check_places(folders)
    source = Path(settings.from_f16) if settings.from_f16 else base
    if folders:
        check_source(source)
    if settings.from_f16:
        check_same_model(source, base, adaptable(base))
    if task is not None and form is not None and (settings.types or folders):
        check_carried(settings, task, form)


def check_carried(settings: ExportSettings, task: Task, form: Form) -> None:
    """Raise SgError where the chat template in the files could not ask as training did."""
    if not settings.plain_template:
        task_template(task, form, add_bos=bool(form.add_bos))
    elif form.template is not None and form.inset:
        message = "The model's own chat template does not ask with the line end that train.layout=whole trains with."
        raise SgError(message, "Leave `export.plain_template` out, or train with `train.layout=lead`.", exit_code=2)


def check_types(types: Sequence[str]) -> None:
    """Raise SgError for a name that is no export type."""
    known = ("auto", "same", *EXPORT_TYPES, *WEIGHTED_TYPES)
    wrong = next((type for type in types if type not in known), None)
    if wrong is not None:
        hint = f"`export.types` takes one of: {', '.join(known)}."
        raise SgError(f"There is no export type {wrong!r}.", hint, exit_code=2)


def wanted_folders(settings: ExportSettings) -> dict[str, Path]:
    """The folders that are asked for, by kind."""
    given = {"mlx": settings.mlx, "hf": settings.hf}
    return {kind: Path(path).expanduser() for kind, path in given.items() if path}


def missing_libraries(settings: ExportSettings) -> dict[str, list[str]]:
    """By kind of folder that is asked for, the packages without which its library cannot try it; none: left out."""
    found = {kind: missing_packages(kind) for kind in wanted_folders(settings)}
    return {kind: missing for kind, missing in found.items() if missing}


def check_places(folders: dict[str, Path]) -> None:
    """Raise SgError where a folder would overwrite what we did not make, or another one."""
    if len({path.resolve() for path in folders.values()}) < len(folders):
        raise SgError("`export.mlx` and `export.hf` name the same folder.", "Give each one its own.", exit_code=2)
    for path in folders.values():
        ours = path.is_dir() and (path / PROVENANCE).is_file()
        if path.exists() and not ours and not (path.is_dir() and not any(path.iterdir())):
            raise SgError(f"{path} holds other files.", "Name a new folder, or an empty one.", exit_code=2)


def adaptable(base: Path) -> list[str]:
    """The tensors of a base that an adapter may change."""
    shape = read_config(base)
    return [f"blk.{layer}.{stem}.weight" for layer in range(shape.layers) for stem in shape.row.targets]


def check_same_model(source: Path, base: Path, names: Sequence[str]) -> None:
    """Raise SgError unless `source` is a GGUF of the base's model, with the tensors of these names unquantised."""
    check_model(source)
    hint = "`export.from_f16` takes the F16, BF16 or F32 GGUF of the very model that the base was quantised from."
    with GgufFile(source) as ours, GgufFile(base) as theirs:
        shapes = [{tensor.name: tensor.shape for tensor in file.tensors.values()} for file in (ours, theirs)]
        tokens = [file.fields["tokenizer.ggml.tokens"].raw for file in (ours, theirs)]
        if shapes[0] != shapes[1] or tokens[0] != tokens[1]:
            raise SgError(f"{source} is not the same model as {base}.", hint)
        for name in names:
            if ours.tensors[name].type not in FLOATS:
                raise SgError(f"{source} is quantised: {name} is {ours.tensors[name].type}.", hint)
        wanted, found = theirs.dequantize(names[0], 0, 64), ours.dequantize(names[0], 0, 64)
        if float(((wanted - found) ** 2).sum()) > 0.25 * float((wanted**2).sum()):
            raise SgError(f"{source} holds other weights than {base} ({names[0]} differs).", hint)
