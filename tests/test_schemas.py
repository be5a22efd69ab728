"""Schemas of outputs: which can be used, what fits them, and how each stage holds the model to them."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sg_local import filters, prompts, schemas, serve, synth
from sg_local.backends import EngineSettings
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.cli.app import app
from sg_local.evaluate import EvalSettings, evaluate, judged_rows
from sg_local.evaluate.browse import wrong_fields
from sg_local.filters import FilterSettings, Switch
from sg_local.filters.rules import OUTPUT_RULES, RuleContext, RuleInput, first_reason
from sg_local.records import Pair, Prompt, Sampling, Segment, SgError, Task, TestRow
from sg_local.report import read_report, render
from sg_local.synth import Synthesis, SynthSettings
from sg_local.tasks import read_task
from sg_local.views.verdict import notes
from tests import tiny_models, tiny_runs

SCHEMA = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer"}, "note": {"enum": ["new", "used"]}},
    "required": ["item", "count"],
    "additionalProperties": False,
}
TEXT = json.dumps(SCHEMA)
ORDER = Task(
    name="order",
    kind="generation",
    instruction="Write the order line as JSON.",
    examples=(
        Pair("three blue mugs please", '{"item": "mug", "count": 3}'),
        Pair("I want twelve red plates", '{"item": "plate", "count": 12}'),
    ),
    tests=(TestRow("one grey bowl for me", ('{"item": "bowl", "count": 1}',)),),
    schema=TEXT,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"item": "mug", "count": 3}', ""),
        (' {"count":3,"item":"mug","note":"new"} ', ""),
        ('{"item": "mug"}', "'count' is a required property"),
        ('{"item": "mug", "count": "3"}', "count: '3' is not of type 'integer'"),
        ('{"item": "mug", "count": 3, "size": 1}', "Additional properties"),
        ('{"item": "mug", "count": NaN}', "not JSON: NaN"),
        ('{"item": "mug", "count"', "not JSON"),
        ("3 mugs", "not JSON"),
        ("[]", "is not of type 'object'"),
        ("", "not JSON"),
    ],
)
def test_misfit(text, reason):
    found = schemas.misfit(TEXT, text)
    assert reason in found and bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (SCHEMA, ""),
        ({}, ""),
        ([], "is an object"),
        ({"type": "objekt"}, "type: 'objekt' is not valid"),
        ({"properties": {"a": {"$ref": "https://example.com/s.json"}}}, "not inside the schema"),
        ({"$ref": "other.json"}, "not inside the schema"),
        ({"$defs": {"n": {"type": "number"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}, ""),
        ({"type": "object", "properties": {"child": {"$ref": "#"}}}, ""),
        ({"properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}, "$id": {}}}, ""),
        ({"$ref": "#/$defs/none"}, "which it does not hold"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"$id": "http://x/y", "$anchor": "q", "$ref": "#q"}, "leads back to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "leads back to itself"),
        ({"dependentSchemas": {"a": {"$ref": "#"}}}, "leads back to itself"),
        ({"properties": {"a": {"$id": "other"}}}, "an $id of its own"),
        ({"$schema": True}, "$schema"),
        ({"pattern": "("}, "pattern"),
        ({"pattern": "(a{1000}){1000}"}, "multiply to too much"),
        ({"patternProperties": {"((x{200}){9}){99}": {}}}, "multiply to too much"),
        ({"pattern": "a{99999999999999999999}"}, "cannot be checked"),
        ({"pattern": r"^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$"}, ""),
        ({"pattern": "x" * 2000}, "more than 1000 characters"),
        ({"$schema": "http://[::", "$id": "http://[x"}, "cannot be checked"),
        ({"pattern": "[[a]"}, ""),
        ({"enum": ["x" * 300_000]}, "longer than 200 kB"),
    ],
)
def test_unfit(schema, reason):
    found = schemas.unfit(schema)
    assert reason in found and bool(found) == bool(reason)


TREE = {"type": "array", "anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}
DOUBLING = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)}


@pytest.mark.parametrize(
    ("schema", "text", "reason"),
    [
        ({"pattern": "^(a+)+$"}, json.dumps("a" * 60 + "!"), "does not match"),
        ({"patternProperties": {"^(a+)+$": False}}, json.dumps({"a" * 60 + "!": 1}), ""),
        ({"patternProperties": {"^a+$": {"type": "string"}}}, '{"aa": 1}', "aa: 1 is not of type"),
        (TREE, "[" * 90 + "1" + "]" * 90, "too many steps"),
        ({"$defs": {**DOUBLING, "d30": {"type": "string"}}, "$ref": "#/$defs/d0"}, "1", "too many steps"),
        ({"type": "array"}, "[" * 5000, "more than 100 levels"),
        ({"multipleOf": 0.01}, "1" + "0" * 400, "cannot be checked"),
        ({"uniqueItems": True}, json.dumps([{"a": i, "b": []} for i in range(3000)]), ""),
        ({"uniqueItems": True}, '[{"a": 1, "b": 2.0}, {"b": 2, "a": 1}]', "the same"),
        ({"uniqueItems": True}, "[1, true, [1], [true]]", ""),
    ],
)
def test_what_could_be_checked_for_ever_is_bounded(schema, text, reason):
    assert not schemas.unfit(schema)
    found = schemas.misfit(json.dumps(schema), text)
    assert reason in found and bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("part", "without"),
    [
        ({"type": "string", "maxLength": 10**8}, {"type": "string"}),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 10**8}, {"type": "array", "items": {"type": "null"}}),
    ],
)
def test_a_grammar_leaves_out_upper_bounds_that_it_has_no_room_for(part, without):
    from sg_local.backends.llama_cpp.schema import grammar_of

    assert grammar_of(json.dumps(part)) == grammar_of(json.dumps(without))


def test_a_grammar_refuses_lower_bounds_that_it_has_no_room_for():
    from sg_local.backends.llama_cpp.schema import grammar_of

    with pytest.raises(SgError, match="minItems is 100000000, and a grammar counts to 500"):
        grammar_of(json.dumps({"type": "array", "items": {"type": "null"}, "minItems": 10**8}))


# Task files

HEAD = 'kind = "generation"\ninstruction = "Write JSON."\n'
TAIL = '[[examples]]\ninput = "three mugs"\noutput = \'{"item": "mug", "count": 3}\'\n'
CLASSES = 'kind = "classification"\ninstruction = "x"\nlabels = ["a", "b"]\n'
TABLE = '[schema]\ntype = "object"\nrequired = ["item"]\n[schema.properties.item]\ntype = "string"\n'


@pytest.mark.parametrize(
    ("schema", "read"),
    [
        (TABLE, {"type": "object", "required": ["item"], "properties": {"item": {"type": "string"}}}),
        ('schema = "order.json"\n', SCHEMA),
        (f"schema = '{TEXT}'\n", SCHEMA),
    ],
)
def test_a_task_file_gives_a_schema_in_three_ways(tmp_path, schema, read):
    (tmp_path / "order.json").write_text(TEXT)
    (tmp_path / "task.toml").write_text(HEAD + (TAIL + schema if schema is TABLE else schema + TAIL))
    assert json.loads(read_task(tmp_path / "task.toml").schema) == read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + 'schema = \'{"type": "objekt"}\'\n' + TAIL, "task.toml:3: the schema cannot be used: type"),
        (HEAD + "schema = '{oops'\n" + TAIL, "the schema is not JSON"),
        (HEAD + 'schema = "gone.json"\n' + TAIL, "no file at"),
        (HEAD + TAIL + "[schema]\nconst = 2024-05-03\n", "the schema holds what JSON cannot"),
        (HEAD + 'schema = \'{"type": "array"}\'\n' + TAIL, "the output of example 1 does not fit the schema"),
        (
            HEAD + f"schema = '{TEXT}'\n" + TAIL + '[[tests]]\ninput = "a"\noutput = "b"\n',
            "the output of test row 1 does not fit the schema: not JSON",
        ),
        (
            CLASSES + 'schema = \'{}\'\n[[examples]]\ninput = "i"\noutput = "a"\n',
            "a classification task has a schema",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_usage_error(tmp_path, text, words):
    (tmp_path / "task.toml").write_text(text)
    with pytest.raises(SgError) as error:
        read_task(tmp_path / "task.toml")
    assert words in error.value.message and error.value.exit_code == 2 and error.value.hint


def test_a_task_without_a_schema_keeps_its_digest(routing):
    assert dataclasses.replace(routing, schema="{}").digest != routing.digest
    assert routing.digest == "7d685c0d7a6b5e0a"


def test_tasks_check_looks_at_the_schema(tmp_path):
    pytest.importorskip("llama_cpp")
    swapped = {**SCHEMA, "properties": {"count": {"type": "integer"}, "item": {"type": "string", "pattern": "mug"}}}
    (tmp_path / "task.toml").write_text(HEAD + f"schema = '{json.dumps(swapped)}'\n" + TAIL)
    result = CliRunner().invoke(app, ["tasks", "check", str(tmp_path / "task.toml"), "--json"])
    found = " ".join(item["finding"] for item in json.loads(result.stdout))
    assert "another order than the schema" in found and "cannot be made into a grammar" in found


def test_a_new_task_with_a_schema_reads_back(tmp_path):
    draft = {"kind": "generation", "instruction": "x", "examples": [["a", "[1]"]], "schema": {"type": "array"}}
    (tmp_path / "draft.json").write_text(json.dumps(draft))
    line = ["tasks", "new", str(tmp_path / "new.toml"), "--from", str(tmp_path / "draft.json")]
    assert CliRunner().invoke(app, line).exit_code == 0
    assert json.loads(read_task(tmp_path / "new.toml").schema) == {"type": "array"}


# Stages


def test_a_report_tells_the_fields_on_every_screen(tmp_path, capsys):
    """Of the base every answer is no JSON; of the tuned model every count is wrong."""
    generator = tiny_runs.FakeGenerator({"one grey bowl for me": '{"item": "Bowl", "count": 2}'})
    job = tiny_runs.job_of(tmp_path / "runs" / "order", ORDER, generator, (Pair("a", "{}"),) * 2)
    report = evaluate(job)
    assert report.tuned.metrics | {"field_f1": 50.0, "fields_right": 50.0, "valid_json": 100.0} == report.tuned.metrics
    assert report.base.metrics | {"field_f1": 0.0, "fields_right": 0.0, "valid_json": 0.0} == report.base.metrics
    assert (report.tuned.by_field, report.base.by_field) == ({"item": 100, "count": 0}, {"item": 0, "count": 0})
    assert read_report(job.run) == report
    [row] = judged_rows(job.run, "all")
    assert row.wrong == ("count",) and wrong_fields(TEXT, "red", ORDER.tests[0].outputs)[0].startswith("not JSON")
    said = "JSON, in percent: field F1 50.0 (base 0.0), fields right 50.0 (base 0.0), valid JSON 100.0 (base 0.0)."
    assert f"{said} Least right: count 0." in notes(report)
    page = render(job.run)
    assert "valid JSON" in page
    assert re.search(r'dir="auto">count</th><td[^>]* class="number"><span>0\.0</span></td>', page)


def test_other_reports_say_nothing_of_fields(tmp_path):
    job = tiny_runs.job_of(tmp_path / "runs" / "lower", tiny_runs.REWRITE, tiny_runs.FakeGenerator({}))
    report = evaluate(job)
    assert report.tuned.by_field is None and "field_f1" not in report.tuned.metrics
    assert "by_field" not in job.run.path("report.json").read_text() and "valid JSON" not in render(job.run)


WORDS = [
    "two",
    "six",
    "nine",
    "old",
    "wide",
    "red",
    "cups",
    "mugs",
    "bowls",
    "jars",
    "lids",
    "pans",
    "now",
    "soon",
    "please",
]
ANSWERS = ['{"item": "cup", "count": 2}', "two cups and nothing more"]


def scripted(tmp_path, answers=ANSWERS):
    def reply(prompt, rng):
        if prompt.rstrip().endswith("Input:"):
            return " ".join(rng.sample(WORDS, 5))
        return rng.choice(answers)

    return ScriptedGenerator(tmp_path / "m.gguf", reply)


def synthesised(run, tmp_path, constrain):
    generator = scripted(tmp_path)
    settings = SynthSettings(n_inputs=12, round_size=8, n_votes=1, steer=False, constrain=constrain)
    gate = filters.input_gate(ORDER, FilterSettings())
    synth.synthesise(Synthesis(run, ORDER, prompts.PLAIN, generator, settings, gate, 1), lambda event: None)
    return generator


@pytest.mark.parametrize(("constrain", "sent"), [(True, {TEXT}), (False, {None})])
def test_stage_b_is_held_to_the_schema_where_asked(run, tmp_path, constrain, sent):
    asked = synthesised(run, tmp_path, constrain).asked
    votes = [prompt for prompt in asked if prompt.sampling.top_k == SynthSettings().vote_top_k]
    inputs = [prompt for prompt in asked if prompt not in votes]
    assert {prompt.sampling.schema for prompt in votes} == sent
    assert {prompt.sampling.schema for prompt in inputs} == {None}


def test_the_rule_rejects_outputs_that_do_not_fit(run, tmp_path):
    synthesised(run, tmp_path, constrain=False)
    found = filters.apply(run, ORDER, FilterSettings())
    assert found.rules["schema"] > 0 and found.examples["schema"][0][1].startswith("not JSON")
    assert found.kept > 0 and all(schemas.misfit(TEXT, row.pair.output) == "" for row in filters.kept_rows(run))
    free = FilterSettings(schema=Switch(False))
    assert filters.apply(run, ORDER, free).kept > found.kept


def test_the_rule_is_silent_without_a_schema(fluent):
    row = RuleInput("When does the um the shop open?", "When does the shop open?")
    assert first_reason(OUTPUT_RULES, row, RuleContext(fluent, FilterSettings())) == ("", "")


@pytest.mark.parametrize(("constrain", "sent"), [(True, {TEXT}), (False, {None})])
def test_every_free_text_system_of_an_evaluation_is_held_to_the_schema(tmp_path, constrain, sent):
    generator = scripted(tmp_path, ANSWERS[:1])
    settings = EvalSettings(resamples=20, constrain=constrain)
    job = tiny_runs.job_of(tmp_path / "run", ORDER, generator, (Pair("a", "{}"),) * 2, settings)
    evaluate(job)
    assert {prompt.sampling.schema for prompt in generator.asked} == sent
    again = tiny_runs.job_of(
        tmp_path / "run", ORDER, generator, settings=dataclasses.replace(settings, constrain=not constrain)
    )
    with pytest.raises(SgError, match="constrain"):
        evaluate(again)


@pytest.mark.parametrize(("restricted", "sent"), [(True, {TEXT}), (False, {None})])
def test_predict_answers_with_what_fits(tmp_path, restricted, sent):
    generator = scripted(tmp_path, ANSWERS[:1])
    settings = serve.ServeSettings(restricted=restricted)
    assert list(serve.predict(generator, ORDER, prompts.PLAIN, ["two cups and nothing more"], settings)) == ANSWERS[:1]
    assert {prompt.sampling.schema for prompt in generator.asked} == sent


# The engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_models.write_model(
        tmp_path_factory.mktemp("tiny") / "t.gguf", tiny_models.TinySpec("bpe", "F32", "F32")
    )


def completions(model, tmp_path, schema, n=6):
    lib = pytest.importorskip("sg_local.backends.llama_cpp")
    settings = EngineSettings(n_ctx=512, n_parallel=4, n_threads=1, fast_copy=False, cache=tmp_path)
    generator = lib.open_generator(model, settings)
    sampling = Sampling(temperature=200.0, max_tokens=400, schema=json.dumps(schema))
    asked = [Prompt(str(i), (Segment("Output:"),), sampling, seed=i + 1) for i in range(n)]
    try:
        return list(generator.generate(asked))
    finally:
        generator.close()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"n": {"enum": [1, 2, "x"]}, "root": {"type": "boolean"}}, "required": ["n"]},
        {"type": "array", "items": {"$ref": "#/$defs/answer"}, "maxItems": 3, "$defs": {"answer": {"const": "yes"}}},
        {"anyOf": [{"const": "a \"b\"\n"}, {"type": "null"}]},
        {"type": "string", "pattern": "^[a-z]{1,5}$"},
    ],
)  # fmt: skip
def test_a_model_that_knows_nothing_writes_json_that_fits(tiny, tmp_path, schema):
    done = completions(tiny, tmp_path, schema)
    assert len(done) == 6 and {each.finish for each in done} == {"stop"}
    assert [schemas.misfit(json.dumps(schema), each.text) for each in done] == [""] * 6


def test_what_cannot_be_a_grammar_is_refused(tiny, tmp_path):
    with pytest.raises(SgError, match="cannot be made into a grammar") as error:
        completions(tiny, tmp_path, {"type": "string", "pattern": "a|b"})
    assert "constrain=false" in error.value.hint


def test_mlx_keeps_to_a_schema_too(tiny, tmp_path):
    mlx = pytest.importorskip("sg_local.backends.mlx")
    generator = mlx.open_generator(tiny, EngineSettings(n_ctx=256, n_threads=1, cache=tmp_path))
    asked = Prompt("a", (Segment("x"),), Sampling(schema=TEXT, max_tokens=120, temperature=0.8))
    (done,) = generator.generate([asked])
    generator.close()
    assert done.finish != "stop" or not schemas.misfit(TEXT, done.text)
    assert done.text.lstrip().startswith("{")
