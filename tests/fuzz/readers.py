"""Every reader of what somebody else may have written, with its sound files and the changes that are made to them."""

from __future__ import annotations

from attempts import Reader
from readers_of_files import REVIEW, SETTINGS, TASKS, TEXTS
from readers_of_runs import CACHES, JOURNALS, RUN_FILES, TRAINING

READERS: tuple[Reader, ...] = (*TASKS, *REVIEW, *SETTINGS, *TEXTS, *JOURNALS, *RUN_FILES, *TRAINING, *CACHES)
