"""The names that people see: read from the base's own, put together by GGUF's convention, old ones still found."""

from __future__ import annotations

import re

import pytest
from test_export import make_job
from tiny_models import TinySpec

from sg_local import export, gguf
from sg_local.export.naming import ExportNames, base_names, names_of, size_label
from sg_local.run import FUSED

CONVENTION = re.compile(
    r"^(?P<BaseName>[A-Za-z0-9.]+(?:-[A-Za-z0-9.]+)*?)-(?P<SizeLabel>(?:\d+\.)?\d+[A-Z])-(?P<FineTune>[A-Za-z0-9-]+?)"
    r"-(?P<Version>v\d+(?:\.\d+)*)-(?P<Encoding>\w+)\.gguf$"
)
"""docs/gguf.md's expression; dots are let into the BaseName, as its own examples (Llama-3.2) have them."""

BASES = (
    ("SmolLM2-135M-Instruct.Q4_1", 134515008, "SmolLM2 135M", "SmolLM2 135M Instruct", "SmolLM2-135M-colours-v1.0"),
    (
        "Mistral-7B-Instruct-v0.3-Q4_K_M",
        7248023552,
        "Mistral 7B v0.3",
        "Mistral 7B Instruct v0.3",
        "Mistral-7B-colours-v0.3",
    ),
    (
        "Llama-3.2-1B-Instruct-UD-Q4_K_XL",
        1235814432,
        "Llama 3.2 1B",
        "Llama 3.2 1B Instruct",
        "Llama-3.2-1B-colours-v1.0",
    ),
    ("gemma-3-270m-it-Q8_0", 268098176, "gemma 3 270M", "gemma 3 270M it", "gemma-3-270M-colours-v1.0"),
    ("Yi-8k-6B-Chat-F16", 6061035520, "Yi 8k 6B", "Yi 8k 6B Chat", "Yi-8k-6B-colours-v1.0"),
    ("model", 82000, "model 82K", "model 82K", "model-82K-colours-v1.0"),
)


@pytest.mark.parametrize(("stem", "n", "short", "whole", "file"), BASES, ids=[base[0] for base in BASES])
def test_a_base_s_file_name_tells_its_name_size_and_version(stem, n, short, whole, file):
    base = base_names([stem, "", "left out"], n, size_label(n))
    names = ExportNames(base, "", "colours")
    assert (base.title(whole=False), base.title(whole=True)) == (short, whole)
    assert names.fields["general.name"] == f"colours on {short}"
    assert names.file("Q6_K") == f"{file}-Q6_K.gguf"
    assert CONVENTION.match(names.file("Q4_K_M"))["Encoding"] == "Q4_K_M"


def test_a_store_s_file_of_no_name_goes_by_the_run_s_name_for_it():
    base = base_names(["sha256-0123abcd", "smollm2:135m", "Smollm2 135M 8k Lc100K"], 134515008, "135M")
    assert (base.basename, base.size_label) == ("smollm2", "135M")


@pytest.mark.parametrize(
    ("task", "part"), (("reply in two words", "reply-in-two-words"), ("答え", "task"), ("x" * 200, "x" * 60))
)
def test_any_task_s_name_makes_a_file_s_name(task, part):
    file = ExportNames(base_names(["SmolLM2-135M"], 134515008, "135M"), "", task).file("Q8_0")
    assert file == f"SmolLM2-135M-{part}-v1.0-Q8_0.gguf"


@pytest.mark.parametrize(
    ("n", "label"),
    (
        (134515008, "135M"),
        (1100048384, "1.1B"),
        (7248023552, "7.2B"),
        (82000, "82K"),
        (900, "0.9K"),
        (13015864320, "13B"),
    ),
)
def test_a_size_is_rounded_as_gguf_s_own_tools_do(n, label):
    from gguf.utility import size_label as theirs

    assert size_label(n) == theirs(n, 0, 0, 0) == label


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return make_job(tmp_path_factory.mktemp("named"), TinySpec(type="Q4_0", layers=1))


def test_a_fused_file_bears_its_names_and_keeps_the_base_s_other_keys(job):
    report = export.export(job)
    with gguf.GgufFile(job.base) as base, gguf.GgufFile(job.run.path(report.fused[0].file)) as file:
        told = {key: file.value(key) for key in names_of(job).fields}
        assert told == names_of(job).fields
        assert told["general.name"].startswith("colours on base ")
        assert CONVENTION.match(report.fused[0].file)["FineTune"] == file.value("general.finetune") == "colours"
        assert file.value("general.license") == base.value("general.license")
        assert file.value("general.architecture") == base.value("general.architecture")


def test_a_size_that_the_metadata_tell_wrongly_is_counted(job, tmp_path):
    import dataclasses

    for told, label in (("256M", names_of(job).base.size_label), ("0.7M", "0.7M")):
        wrong = tmp_path / "wrong.gguf"
        gguf.copy_with_fields(job.base, wrong, {"general.size_label": told})
        assert names_of(dataclasses.replace(job, base=wrong)).base.size_label == label


def test_a_file_of_the_old_name_is_found_and_gives_way_to_the_new_one(job):
    report = export.export(job)
    new = job.run.path(report.fused[0].file)
    old = new.rename(job.run.path("fused-Q8_0.gguf"))
    assert list(job.run.root.glob(FUSED)) == [old]
    again = export.export(job)
    assert list(job.run.root.glob(FUSED)) == [new]
    assert [fused.file for fused in again.fused] == [new.name]
    assert f"FROM ./{new.name}\n" in job.run.path("Modelfile").read_text()
