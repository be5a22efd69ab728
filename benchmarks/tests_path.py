"""Importing this lets a benchmark import the tests' modules that write tiny models."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
