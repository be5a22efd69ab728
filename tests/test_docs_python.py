"""docs/python.md: its examples are one walk on the embedded model, run from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_names_every_public_call():
    import sg_local as sg

    text = PAGE.read_text(encoding="utf-8")
    calls = [name for name in vars(sg.Job) if not name.startswith("_") and callable(getattr(sg.Job, name))]
    assert [name for name in (*calls, "load", "load_task", "open_job") if f"{name}(" not in text] == []


@pytest.mark.slow
def test_the_walk_runs_on_the_embedded_model(own_folder, embedded, capsys):
    names: dict[str, object] = {"__name__": "walk"}
    for number, block in enumerate(blocks(), 1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert re.search(r"synth: \d+ pairs", said) and re.search(r"\d+ -> \d+ percent on 9 rows", said)
    assert "There is no setting 'train.epoch'. Did you mean train.epochs?" in said
    assert (own_folder / "runs" / "team-smollm2-135m-instruct" / "SmolLM2-135M-team-v1.0-Q8_0.gguf").is_file()
