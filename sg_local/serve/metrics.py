"""What the server counts, as Prometheus reads it: requests, tokens, what is under way, and how long requests take."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histogram's buckets."""

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters of one server, safe to use from any thread. Models are told by the names that are served, no others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[Labels] = Counter()
        self._tokens: Counter[Labels] = Counter()
        self._buckets: dict[Labels, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS_S) + 1))
        self._seconds: Counter[Labels] = Counter()

    def request(self, path: str, status: int, seconds: float, model: str = "") -> None:
        """A request has ended."""
        labels = (("model", model), ("path", path))
        with self._lock:
            self._requests[(*labels, ("status", str(status)))] += 1
            self._seconds[labels] += seconds  # type: ignore[assignment]
            bucket = next((i for i, bound in enumerate(BUCKETS_S) if seconds <= bound), len(BUCKETS_S))
            self._buckets[labels][bucket] += 1

    def tokens(self, model: str, n_prompt: int, n_new: int) -> None:
        """A request has taken tokens."""
        with self._lock:
            self._tokens[(("kind", "prompt"), ("model", model))] += n_prompt
            self._tokens[(("kind", "completion"), ("model", model))] += n_new

    def text(self, gauges: Mapping[str, float]) -> str:
        """All figures in Prometheus's text format; `gauges` are what stands now, by name."""
        with self._lock:
            return "\n".join(self._lines(gauges)) + "\n"

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        yield "# TYPE sg_local_requests_total counter"
        yield from (f"sg_local_requests_total{_told(labels)} {n}" for labels, n in sorted(self._requests.items()))
        yield "# TYPE sg_local_tokens_total counter"
        yield from (f"sg_local_tokens_total{_told(labels)} {n}" for labels, n in sorted(self._tokens.items()))
        for name, value in gauges.items():
            yield f"# TYPE sg_local_{name} gauge"
            yield f"sg_local_{name} {value:g}"
        yield "# TYPE sg_local_request_seconds histogram"
        for labels, counts in sorted(self._buckets.items()):
            yield from self._histogram(labels, counts)

    def _histogram(self, labels: Labels, counts: list[int]) -> Iterator[str]:
        total = 0
        for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
            total += count
            yield f"sg_local_request_seconds_bucket{_told((*labels, ('le', bound)))} {total}"
        yield f"sg_local_request_seconds_sum{_told(labels)} {self._seconds[labels]:.6f}"
        yield f"sg_local_request_seconds_count{_told(labels)} {total}"


def _told(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
