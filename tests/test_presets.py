"""Presets and typed single values."""

import pytest

from sg_local.backends import TrainSettings
from sg_local.evaluate import EvalSettings
from sg_local.export import ExportSettings
from sg_local.filters import FilterSettings
from sg_local.job.plan import make_plan
from sg_local.job.presets import PRESETS, changed, kept_preset, load_preset, merged, nested, preset_toml
from sg_local.records import SgError
from sg_local.synth import SynthSettings

SETTINGS = {"synth": SynthSettings(), "filter": FilterSettings(), "train": TrainSettings(), "eval": EvalSettings()}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kind", ["classification", "generation"])
def test_shipped_presets_name_real_settings(name, kind):
    for stage, values in load_preset(name, kind).items():
        changed(SETTINGS[stage], values, stage)


def test_one_nested_value_changes_and_nothing_else():
    new = changed(FilterSettings(), nested({"near_duplicate.threshold": "0.8"}))
    assert new.near_duplicate.threshold == 0.8 and new.near_duplicate.on
    assert changed(new, {"near_duplicate": {"threshold": 0.7}}) == FilterSettings()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"temprature": "1"}, "temprature"),
        ({"n_asked": "many"}, "not a value of type int"),
        ({"steer": "perhaps"}, "not a value of type bool"),
    ],
)
def test_wrong_names_and_types_are_usage_errors(values, says):
    with pytest.raises(SgError, match=says) as error:
        changed(SynthSettings(), values, "synth")
    assert error.value.exit_code == 2 and error.value.hint


def test_a_near_miss_is_suggested():
    with pytest.raises(SgError) as error:
        changed(SynthSettings(), {"temprature": 1.0})
    assert error.value.hint == "Did you mean temperature?"
    with pytest.raises(SgError) as error:
        changed(SynthSettings(), {"temprature": 1.0}, "synth")
    assert error.value.hint == "Did you mean synth.temperature?"


def test_a_group_is_not_a_value():
    with pytest.raises(SgError, match="is a group"):
        changed(FilterSettings(), {"noise": "off"}, "filter")


@pytest.mark.parametrize(("text", "value"), [("none", None), ("12", 12)])
def test_optional_values(text, value):
    assert changed(SynthSettings(), {"n_inputs": text}).n_inputs == value


@pytest.mark.parametrize(
    ("text", "value"), [("", ()), ("none", ()), ("F16", ("F16",)), ("F16,Q8_0", ("F16", "Q8_0")), (["F16"], ("F16",))]
)
def test_lists_may_be_empty(text, value):
    assert changed(ExportSettings(), {"types": text}).types == value


def test_a_preset_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[synth]\ntemperature = 0.5\n")
    assert load_preset(str(path), "generation") == {"synth": {"temperature": 0.5}}
    path.write_text("[synth\n")
    with pytest.raises(SgError, match="not TOML"):
        load_preset(str(path), "generation")
    with pytest.raises(SgError, match="no preset"):
        load_preset("nothing", "generation")


def test_merged_keeps_what_the_second_does_not_name():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


@pytest.mark.parametrize("kind", ["classification", "generation"])
def test_a_preset_file_may_change_a_shipped_one(tmp_path, kind):
    path = tmp_path / "mine.toml"
    path.write_text('base = "paper"\n[synth]\ntemperature = 0.5\n')
    found = load_preset(str(path), kind)
    assert found == merged(PRESETS["paper"][kind], {"synth": {"temperature": 0.5}})
    path.write_text('base = "parer"\n')
    with pytest.raises(SgError, match="no preset 'parer'"):
        load_preset(str(path), kind)


def test_a_written_preset_reads_back(tmp_path):
    values = {
        "synth": {"n_inputs": None, "style": 'a "b"\n'},
        "filter": {"noise": {"on": False}},
        "train": {"lr": 1e-4},
    }
    path = tmp_path / "mine.toml"
    path.write_text(preset_toml(values, "recommended", "how it\ncame about"))
    assert load_preset(str(path), "generation") == {**values, "synth": {"n_inputs": "none", "style": 'a "b"\n'}}
    assert changed(SynthSettings(), {"n_inputs": "none"}).n_inputs is None


def test_a_wrong_setting_names_the_layer_that_holds_it():
    layers = [("preset p.toml", {"train": {"rank": 4}}), ("file c.toml", {"train": {"rank": "x"}}), ("given", {})]
    with pytest.raises(SgError, match=r"^train\.rank: 'x' is not a value of type int \(file c\.toml\)\.$"):
        make_plan(layers)
    with pytest.raises(SgError, match=r"^There is no setting 'train\.rnk'\.$"):
        make_plan([("given", {"train": {"rnk": 1}})])


def test_a_runs_preset_that_is_gone_is_named_with_the_runs_file(tmp_path):
    kept = tmp_path / "mine.toml"
    kept.write_text("[train]\nrank = 4\n")
    assert [kept_preset(name, tmp_path / "run.json") for name in ("paper", str(kept))] == ["paper", str(kept)]
    with pytest.raises(SgError, match=r"run\.json: there is no preset 'rpaper'"):
        kept_preset("rpaper", tmp_path / "run.json")
