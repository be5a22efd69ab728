"""Every setting is explained in one line, and nothing else is."""

from __future__ import annotations

from sg_local.job.meanings import RULES, SINGLE, STAGES, choices_of, meaning
from sg_local.job.plan import flat, stage_defaults

SETTINGS = {name: value for stage, own in stage_defaults().items() for name, value in flat(own, stage)}


def test_every_setting_has_a_meaning():
    for name in SETTINGS:
        text = meaning(name)
        assert text.endswith(".") and "{" not in text and len(text) <= 120 and "when ." not in text, name


def test_no_meaning_is_of_a_setting_that_is_gone():
    explained = {f"{stage}.{field}" for stage, fields in STAGES.items() for field in fields}
    assert explained == {name for name in SETTINGS if not name.startswith("filter.")}
    assert {f"filter.{name}" for name in SINGLE} <= set(SETTINGS)
    assert {f"filter.{rule}.on" for rule in RULES} <= set(SETTINGS)


def test_the_words_of_a_setting_hold_its_default():
    assert SETTINGS["filter.policy"] in choices_of("policy") and SETTINGS["filter.evidence"] in choices_of("evidence")
    assert set(SETTINGS["export.types"]) <= set(choices_of("types")) and not choices_of("rank")
