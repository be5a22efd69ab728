"""Small reports for tests, without an evaluation."""

from sg_local.report import Report, SystemResult
from sg_local.report.records import AdapterFacts, BaseFacts, Excluded


def report_of(scores, adapter=None, **more):
    """A report of systems by name with their scores, each interval ten points either way."""
    systems = {
        name: SystemResult(
            score=score,
            low=max(0.0, score - 10),
            high=min(100.0, score + 10),
            n=40,
            metrics={"exact_match": score},
            irrelevant=0.0,
            title=name,
            role="tuned" if name.startswith("tuned") else "base",
            family="free",
        )
        for name, score in scores.items()
    }
    facts = {
        "run": "trial",
        "task": "colours",
        "task_digest": "0",
        "kind": "classification",
        "model": BaseFacts("fake", "0", 8),
        "adapter": AdapterFacts(adapter),
        "form": "plain",
        "n_training": 4,
        "stages": {},
        "funnel": None,
        "versions": {},
        "metric": "exact_match",
        "n": 40,
        "excluded": Excluded(),
        "chosen": {"base": "plain"},
        "retain": None,
        "served": "tuned",
        "gains": {},
        "outcomes": (),
        "rows": (),
    }
    return Report(**{**facts, "systems": systems, **more})
