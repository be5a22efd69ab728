"""Sizes and lengths of time are read as people write them."""

from __future__ import annotations

import pytest

from sg_local.backends import TrainSettings
from sg_local.job.presets import changed
from sg_local.job.quantities import seconds_of, size_of
from sg_local.records import SgError
from sg_local.serve import Limits

MB, GB = 10**6, 10**9


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("12G", 12 * GB),
        ("12 GB", 12 * GB),
        ("1.5g", 1_500_000_000),
        ("1,5 GB", 1_500_000_000),
        ("500M", 500 * MB),
        ("20 kB", 20_000),
        ("12GiB", 12 * 2**30),
        ("12 Gi", 12 * 2**30),
        ("512 bytes", 512),
    ],
)
def test_sizes_are_read(text, n_bytes):
    assert size_of(text) == n_bytes


@pytest.mark.parametrize("text", ["", "G", "0", "0M", "-3G", "12 apples", "1e9", "9" * 400])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(SgError, match="not a size") as caught:
        size_of(text)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90 s", 90),
        ("20m", 1200),
        ("20 min", 1200),
        ("45 minutes", 2700),
        ("1h30m", 5400),
        ("1h30", 5400),
        ("1 h 05", 3900),
        ("1 h 30 min", 5400),
        ("1.5h", 5400),
        ("1,5 hours", 5400),
        ("2 hours 10 minutes 5 secs", 7805),
        ("1d", 86400),
    ],
)
def test_times_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0s", "5", "1:30", "-5m", "1h99", "m", "9" * 400 + "h", "5m 1h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(SgError, match="not a length of time") as caught:
        seconds_of(text)
    assert caught.value.exit_code == 2


def test_a_setting_with_a_unit_in_its_name_takes_them_too():
    assert changed(TrainSettings(), {"time_s": "1h30"}).time_s == 5400
    assert changed(TrainSettings(), {"time_s": "90"}).time_s == 90
    limits = changed(Limits(), {"body_bytes": "2MiB", "request_s": "2 min"})
    assert (limits.body_bytes, limits.request_s) == (2 * 2**20, 120)
    with pytest.raises(SgError, match="not a length of time"):
        changed(TrainSettings(), {"time_s": "soon"}, "train")
