"""What a user installs: the wheel carries its tasks and models, and works in an empty folder without the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("sg_local", "tasks", "models", "docs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
MAIN = "import sys; from sg_local.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder like site-packages that holds the built wheel and nothing else."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    (source / "dist").mkdir()
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = (source / "dist").glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def installed(site: Path, folder: Path, *args: str) -> str:
    """What the installed program prints in an empty folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SG_LOCAL_")}
    environment = {**kept, "PYTHONPATH": str(site), "SG_LOCAL_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *args], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_wheel_that_runs(site, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = "import sg_local; print(sg_local.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(site)


def test_tasks_and_models_are_listed_in_an_empty_folder(site, tmp_path):
    tasks = json.loads(installed(site, tmp_path, "tasks", "ls", "--json"))
    assert {row["name"] for row in tasks} == {path.stem for path in (ROOT / "tasks").glob("*.toml")}
    models = json.loads(installed(site, tmp_path, "models", "ls", "--json"))
    assert {path.stem for path in (ROOT / "models").glob("*.toml")} <= {row["name"] for row in models}


def test_the_entries_that_errors_name_are_there(site, tmp_path):
    assert installed(site, tmp_path, "help", "too-few-pairs").startswith("Too few pairs\n")


def test_a_shipped_task_runs_in_an_empty_folder(site, tmp_path):
    installed(site, tmp_path, "run", "support_routing", "--yes", "--backend", "scripted", "--set", "synth.n_inputs=40")
    (report,) = tmp_path.glob("runs/*/report.json")
    assert json.loads(report.read_text())["task"] == "support_routing"


def test_the_program_and_its_version_are_declared(site):
    (folder,) = site.glob("sg_local-*.dist-info")
    assert "sg-local = sg_local.cli:main" in (folder / "entry_points.txt").read_text()
    metadata = (folder / "METADATA").read_text()
    assert {f"Provides-Extra: {extra}" for extra in ("llama", "mlx", "torch", "serve", "demo", "dev")} <= set(
        metadata.splitlines()
    )
    from sg_local import __version__

    assert f"Version: {__version__}" in metadata


def test_types_and_licence_come_with_it(site):
    (folder,) = site.glob("sg_local-*.dist-info")
    assert (site / "sg_local" / "py.typed").is_file()
    assert "Apache License" in (folder / "licenses" / "LICENSE").read_text()
