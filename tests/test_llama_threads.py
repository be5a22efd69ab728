"""The number of threads follows the machine, and the texts do not."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

from sg_local.backends import EngineSettings, machine
from sg_local.backends.llama_cpp import open_generator
from sg_local.backends.llama_cpp.context import ThreadCount
from sg_local.backends.llama_cpp.threads import Observation
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segment
from tests.tiny_models import TinySpec, write_model

N_TOKENS, COST_S = 32, 0.002  # of a decode: tokens, and seconds for each of them on one processor


class Simulated:
    """A machine of some cores with busy neighbours: what a decode by n threads takes, and gets of the processors.

    With more runnable threads than cores every thread gets a fair share; one that waits spins. `wasted` is the part of
    the speed that is lost where some thread has no core to itself, since the others wait for it.
    """

    def __init__(self, cores: int, wasted: float = 0.45) -> None:
        self.cores, self.wasted, self.neighbours, self.clock = cores, wasted, 0, 0.0

    def decode(self, n: int) -> Observation:
        share = min(1.0, self.cores / (n + self.neighbours))
        useful = share * (1 - self.wasted) if share < 1 and n > 1 else share
        seconds = N_TOKENS * COST_S / (n * useful)
        self.clock += seconds
        return Observation(N_TOKENS, seconds, share * n * seconds)

    def run(self, threads: ThreadCount, seconds: float) -> float:
        """Tokens a second over some time."""
        end, began, done = self.clock + seconds, self.clock, 0
        while self.clock < end:
            threads.observe(self.decode(threads.n))
            done += N_TOKENS
        return done / (self.clock - began)

    def best(self) -> float:
        """Tokens a second with the best number of threads."""
        return max(N_TOKENS / self.decode(n).seconds for n in range(1, self.cores + 1))


@pytest.mark.parametrize("cores", (2, 4, 8, 16))
def test_a_quiet_machine_loses_nothing(cores):
    machine, threads = Simulated(cores), ThreadCount(cores)
    assert machine.run(threads, 60) == pytest.approx(machine.best(), rel=0.001) and threads.n == cores


@pytest.mark.parametrize("neighbours", (1, 2, 3))
@pytest.mark.parametrize("cores", (2, 4, 8))
def test_beside_neighbours_it_comes_near_the_best_number(cores, neighbours):
    machine, threads = Simulated(cores), ThreadCount(cores)
    machine.neighbours = neighbours
    machine.run(threads, 10)
    assert machine.run(threads, 60) >= 0.9 * machine.best()


def test_it_finds_back_when_the_neighbours_are_gone():
    machine, threads = Simulated(4), ThreadCount(4)
    machine.neighbours = 2
    machine.run(threads, 30)
    assert threads.n == 2
    machine.neighbours = 0
    machine.run(threads, 20)
    assert machine.run(threads, 20) >= 0.97 * machine.best() and threads.n == 4


def test_neighbours_that_come_and_go_cost_little():
    machine, threads = Simulated(2), ThreadCount(2)
    got, best = 0.0, 0.0
    for neighbours in (0, 2, 0, 1, 0, 2):
        machine.neighbours = neighbours
        got += machine.run(threads, 20)
        best += machine.best()
    assert got >= 0.85 * best


def test_where_waiting_costs_nothing_all_threads_go_on():
    machine, threads = Simulated(4, wasted=0.0), ThreadCount(4)
    machine.neighbours = 2
    assert machine.run(threads, 60) >= 0.9 * machine.best()


def test_one_thread_stays_one():
    machine, threads = Simulated(1), ThreadCount(1)
    machine.neighbours = 2
    machine.run(threads, 10)
    assert threads.n == 1


class Scheduled:
    """Numbers of threads by rote."""

    def __init__(self, numbers) -> None:
        self.numbers = itertools.cycle(numbers)
        self.n, self.seen = next(self.numbers), []

    def observe(self, seen: Observation) -> int:
        self.seen.append((self.n, seen.n_tokens))
        self.n = next(self.numbers)
        return self.n


def texts(path: Path, numbers, monkeypatch) -> list:
    """Greedy and drawn rows and scores under a schedule, as they come."""
    monkeypatch.setattr(machine, "physical_cores", lambda: 3)
    monkeypatch.setattr("sg_local.backends.llama_cpp.physical_cores", lambda: 3)
    generator = open_generator(
        path, EngineSettings(n_ctx=768, n_parallel=6, fast_copy=False, cache=path.parent / "cache")
    )
    try:
        threads = generator._context.crew.threads = Scheduled(numbers)
        words = "the quick brown fox jumps over the lazy dog and then the dog sleeps ".split()
        long = " ".join(itertools.islice(itertools.cycle(words), 400))
        asked = [
            Prompt(str(i), (Segment(long + " ".join(words[i:])),), Sampling(temperature=i % 2, max_tokens=6 + 5 * i), 7)
            for i in range(9)
        ]
        rows = sorted(generator.generate(asked), key=lambda row: row.prompt_id)
        scores = list(generator.score([ScoredPrompt("s", asked[0].segments, (" the fox", " a dog", " fox"))]))
        scores += near_ties(generator, asked)
        assert len({n for n, _ in threads.seen}) == len(set(numbers)), "every number had its turn"
        return [(row.text, row.logprob, row.n_tokens) for row in rows] + [score.logprobs for score in scores]
    finally:
        generator.close()


def near_ties(generator, asked: list[Prompt]) -> list:
    """Scores of the same prompts as of near ties, which are computed in a pool of their own."""
    generator.referee._near = 1e9
    heads, labels = (asked[0].segments, asked[5].segments), (" the fox", " a dog", " fox")
    return list(
        generator.score(ScoredPrompt(one.id, one.segments, labels, settled=True, heads=heads) for one in asked[:4])
    )


SCHEDULES = ((1,), (2,), (1, 3), (2, 1, 3, 3, 1))


def test_texts_and_scores_are_the_same_to_the_bit_however_many_threads_compute(tmp_path, monkeypatch):
    path = write_model(tmp_path / "tiny.gguf", TinySpec())
    usual = texts(path, (3,), monkeypatch)
    assert all(texts(path, numbers, monkeypatch) == usual for numbers in SCHEDULES)


@pytest.mark.slow
def test_a_real_models_texts_are_the_same_to_the_bit_however_many_threads_compute(embedded, tmp_path, monkeypatch):
    path = tmp_path / embedded.name
    path.symlink_to(embedded)
    usual = texts(path, (3,), monkeypatch)
    assert all(texts(path, numbers, monkeypatch) == usual for numbers in SCHEDULES)


def test_a_number_that_was_given_is_held(tmp_path):
    path = write_model(tmp_path / "tiny.gguf", TinySpec())
    for n_threads, follows in ((1, False), (None, True)):
        generator = open_generator(path, EngineSettings(n_ctx=256, n_threads=n_threads, cache=tmp_path / "cache"))
        assert generator._context.plan.follows is follows
        generator.close()
