"""Makes the two runs beside this file with sg-local 0.1.0 (commit 50defb4), from a folder with the two tasks:

PYTHONPATH=CHECKOUT_OF_50defb4 python make.py, then both folders of runs/ without their .lock.

`route` is finished: filtered by another policy after the first time, judged by a person, trained, evaluated.
`lower` was killed while it wrote its candidates: a torn line ends the journal; lower.jsonl is the whole one.
"""

from __future__ import annotations

import csv
from pathlib import Path

from click.testing import CliRunner

from sg_local.cli.app import app

SMALL = ("synth.n_inputs=24", "synth.n_votes=3", "eval.resamples=50", "eval.n_votes=2", "eval.n_dev=6")


def sg_local(*args: str) -> None:
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 0, done.output


def judge(path: Path) -> None:
    """Fill in the exported rows as a person would: accept, edit, relabel, reject."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:5]:
        row["keep"] = "yes"
    rows[1]["input"] += " Please help."
    rows[2]["output"] = "billing" if rows[2]["output"] != "billing" else "delivery"
    rows[3] |= {"keep": "no", "reason": "unnatural input"}
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def finished() -> None:
    sets = [word for name in (*SMALL, "eval.n_calibration=8") for word in ("--set", name)]
    sg_local("synth", "route.toml", "--backend", "scripted", "--name", "route", "--seed", "3", *sets)
    sg_local("filter", "route")
    sg_local("filter", "route", "--redo", "--set", "policy=voted", "--set", "near_duplicate.threshold=0.6")
    sg_local("review", "route", "--judge", "ada", "--export", "rows.csv")
    judge(Path("rows.csv"))
    sg_local("review", "route", "--judge", "ada", "--import", "rows.csv")
    sg_local("train", "route")
    sg_local("eval", "route")


def killed() -> None:
    sets = [word for name in (*SMALL, "synth.chunk_size=8") for word in ("--set", name)]
    sg_local("synth", "lower.toml", "--backend", "scripted", "--name", "lower", *sets)
    run = Path("runs/lower")
    rows = (run / "candidates.jsonl").read_bytes().splitlines(keepends=True)
    Path("lower.jsonl").write_bytes(b"".join(rows))
    (run / "candidates.jsonl").write_bytes(b"".join(rows[:11]) + rows[11][:40])
    (run / "stages" / "synth.json").unlink()


if __name__ == "__main__":
    finished()
    killed()
