"""Ended without a word at random moments of a whole job, the same line again and again, and the end is byte-equal."""

from __future__ import annotations

import itertools
import json
import random
import signal

import pytest

from tests.faults.jobs import REAL, SCRIPTED, Programs, result_of

N_SLICE, N_MORE = 2, 30
N_REAL, KILLS_EACH = 10, 5
ENGINES = ("sg_local.backends.llama_cpp", "sg_local.backends.torch", "sg_local.backends.training.parity")


def kill_and_go_on(programs, folder, line, moments):
    """The same line, ended after each of these seconds of processor time, then let be; how often it was ended."""
    n_kills = 0
    for end_after_s in moments:
        done = programs.run(folder, *line, end_after_s=end_after_s)
        assert done.status in (0, -signal.SIGPROF), done.err
        if done.status == 0:
            break
        n_kills += 1
    done = programs.run(folder, *line)
    assert done.status == 0, done.err
    return n_kills


def spread(seed, cpu_s, n):
    """So many random moments of the whole job, as the time from each to the next: what is begun again comes on top."""
    draw = random.Random(seed)
    at = [0.0, *sorted(draw.uniform(0.02, cpu_s) for _ in range(n))]
    return [max(0.02, b - a) for a, b in itertools.pairwise(at)]


@pytest.mark.parametrize(
    "seed", [*range(N_SLICE), *(pytest.param(seed, marks=pytest.mark.faults) for seed in range(N_SLICE, N_MORE))]
)
def test_a_job_killed_at_any_moment_ends_like_one_that_was_not(programs, uninterrupted, wanted, tmp_path, seed):
    draw = random.Random(seed)
    moments = [draw.uniform(0.02, 0.7 * uninterrupted[1]) for _ in range(4)]
    kill_and_go_on(programs, tmp_path / "often", SCRIPTED, moments)
    assert result_of(tmp_path / "often") == wanted


@pytest.fixture(scope="module")
def real_programs(embedded):
    with Programs(ENGINES) as found:
        yield found


@pytest.fixture(scope="module")
def real_whole(real_programs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    done = real_programs.run(folder, *REAL)
    assert done.status == 0, done.err
    return result_of(folder), done.cpu_s


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(N_REAL))
def test_the_real_job_killed_at_any_moment_ends_like_one_that_was_not(real_programs, real_whole, tmp_path, seed):
    """Fifty kills in all, at five random moments of the whole in each of ten jobs."""
    wanted, cpu_s = real_whole
    n_kills = kill_and_go_on(real_programs, tmp_path / "often", REAL, spread(seed, cpu_s, KILLS_EACH))
    assert n_kills == KILLS_EACH
    assert result_of(tmp_path / "often") == wanted
    run = tmp_path / "often" / "runs" / "trial"
    report = json.loads((run / "report.json").read_text())
    assert report["export"]["fused"][0]["passed"]
    assert not list(run.rglob("parity-*"))
