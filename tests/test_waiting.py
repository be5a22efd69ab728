"""What is waited for is named within a second or so, and not where nothing takes long."""

from __future__ import annotations

import threading

from sg_local.cli import waiting as module
from sg_local.cli.waiting import waiting


def test_a_long_wait_is_named_once(monkeypatch):
    told, heard = [], threading.Event()
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    monkeypatch.setattr(module, "say", lambda text, err: (told.append(text), heard.set()))
    with waiting("loading the model"):
        assert heard.wait(60)
    assert told == ["loading the model\u2026"] and module.PATIENCE_S < 1


def test_a_short_wait_is_not_told(capsys):
    with waiting("loading the model"):
        pass
    assert capsys.readouterr().err == ""
