"""The search for one setting: maximin, what is spared, ties, failures, and going on from the journal."""

import itertools
import os

import pytest

from sg_local.job.search import TRIALS, Search, SearchSettings, Setting, Trial, grid, hardest_first, search
from sg_local.records import SgError
from sg_local.run import Run

GRID = SearchSettings((0.6, 0.8, 1.0), (1.0, 2.0))
GAINS = {  # by temperature, epochs: one gain for each task; the best mean is not the best minimum
    (0.6, 1.0): {"a": 1.0, "b": 2.0},
    (0.8, 1.0): {"a": 3.0, "b": 2.5},
    (1.0, 1.0): {"a": 20.0, "b": -5.0},
    (0.6, 2.0): {"a": 2.5, "b": 9.0},
    (0.8, 2.0): {"a": 2.5, "b": 2.5},
    (1.0, 2.0): {"a": None, "b": 30.0},
}


def attempt_of(tried, gains=None):
    def attempt(task, setting):
        tried.append((task, setting.temperature, setting.epochs))
        gain = (gains or GAINS)[setting.temperature, setting.epochs][task]
        facts = (task, setting.temperature, setting.epochs)
        return Trial(*facts, failed="nothing left") if gain is None else Trial(*facts, base=50.0, tuned=50.0 + gain)

    return attempt


def job_of(folder, attempt, settings=GRID, tasks=("a", "b")):
    return Search(Run(folder), tasks, settings, attempt)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "search").mkdir()
    return tmp_path / "search"


def test_the_highest_minimum_wins_not_the_highest_mean(folder):
    found = search(job_of(folder, attempt_of([])))
    assert found.best.setting == Setting(0.8, 1.0) and found.best.worst == 2.5


def test_a_setting_that_cannot_win_is_given_up_and_changes_no_winner(folder, tmp_path):
    spared, everything = [], []
    found = search(job_of(folder, attempt_of(spared)))
    (tmp_path / "all").mkdir()
    full = search(
        job_of(tmp_path / "all", attempt_of(everything), SearchSettings(GRID.temperatures, GRID.epochs, True))
    )
    assert found.best == full.best
    assert len(everything) == 12 and len(spared) < 12 and set(spared) < set(everything)


@pytest.mark.parametrize("gains", list(itertools.product([1.0, 2.0, None], repeat=4)))
def test_the_winner_is_that_of_a_plain_maximin(tmp_path, gains):
    settings = SearchSettings((0.6, 0.8), (1.0,))
    table = {(0.6, 1.0): {"a": gains[0], "b": gains[1]}, (0.8, 1.0): {"a": gains[2], "b": gains[3]}}
    usable = {key: min(one.values()) for key, one in table.items() if None not in one.values()}
    job = job_of(tmp_path, attempt_of([], table), settings)
    if not usable:
        with pytest.raises(SgError, match="nothing left"):
            search(job)
    else:
        best = search(job).best.setting
        assert (best.temperature, best.epochs) == max(usable, key=usable.get)  # the first of equals


def test_fewer_epochs_stand_first():
    assert grid(SearchSettings((1.0, 0.6), (2.0, 1.0)))[:3] == [Setting(0.6, 1), Setting(1.0, 1), Setting(0.6, 2)]


def test_the_task_that_went_worst_is_tried_first(folder):
    best = search(job_of(folder, attempt_of([]))).best
    assert hardest_first(("a", "b"), best) == ["b", "a"] and hardest_first(("a", "b"), None) == ["a", "b"]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.49, 0.8, 0.99])
def test_killed_at_any_byte_it_ends_with_the_same_bytes(folder, share):
    outcome = search(job_of(folder, attempt_of([])))
    wanted = (folder / TRIALS).read_bytes()
    os.truncate(folder / TRIALS, int(share * len(wanted)))
    n_kept = (folder / TRIALS).read_bytes().count(b"\n")
    tried = []
    assert search(job_of(folder, attempt_of(tried))) == outcome
    assert (folder / TRIALS).read_bytes() == wanted and len(tried) == wanted.count(b"\n") - n_kept


def test_a_wider_grid_makes_only_what_is_new(folder):
    search(job_of(folder, attempt_of([]), SearchSettings((0.6, 0.8), (1.0,), True)))
    tried = []
    search(job_of(folder, attempt_of(tried), SearchSettings(GRID.temperatures, GRID.epochs, True)))
    assert len(tried) == 12 - 4


def test_an_error_that_is_no_lack_of_rows_stops_the_search_and_keeps_the_journal(folder):
    attempt = attempt_of([])

    def failing(task, setting):
        if setting.temperature == 1.0:
            raise SgError("The disk is full.")
        return attempt(task, setting)

    with pytest.raises(SgError, match="disk"):
        search(job_of(folder, failing))
    assert len(Run(folder).read(TRIALS, Trial)) == 4


def test_an_empty_grid_is_a_usage_error(folder):
    with pytest.raises(SgError) as error:
        search(job_of(folder, attempt_of([]), SearchSettings((), (1.0,))))
    assert error.value.exit_code == 2
