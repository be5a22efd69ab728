"""The changes that a form of file gets, as often as they stand here: most leave it readable at first sight."""

from __future__ import annotations

from data import json_changed, json_line_changed
from formats import toml_changed, zip_changed
from mutators import bytes_changed, text_changed

JSON = (json_changed, json_changed, json_changed, text_changed, bytes_changed)
LINES = (json_line_changed, json_line_changed, json_line_changed, text_changed, bytes_changed)
TOML = (toml_changed, toml_changed, toml_changed, text_changed, bytes_changed)
TEXT = (text_changed, text_changed, bytes_changed)
ZIP = (zip_changed,)
SEPARATED = (text_changed, bytes_changed)
