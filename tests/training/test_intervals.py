"""Values over clips and their intervals, against numpy on all frames at once."""

import numpy as np
import pytest

from selftalk_blender.training import intervals

RNG = np.random.default_rng(0)
CLIPS = [(RNG.normal(5, 2, n), RNG.normal(3, 1, n)) for n in (40, 75, 60, 20, 90)]
CLIPS = [(x, y + 0.5 * x) for x, y in CLIPS]


def test_sums_of_clips_give_what_all_frames_give() -> None:
    x, y = (np.concatenate(side) for side in zip(*CLIPS, strict=True))
    moments = np.stack([intervals.moments(*clip) for clip in CLIPS])
    assert intervals.over_clips("correlation", moments) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert intervals.over_clips("amplitude", moments) == pytest.approx(x.std() / y.std())
    means = np.stack([intervals.mean_sums(x) for x, _ in CLIPS])
    assert intervals.over_clips("mean", means) == pytest.approx(x.mean())
    differences = np.stack([intervals.difference_sums(*clip) for clip in CLIPS])
    assert intervals.over_clips("difference", differences) == pytest.approx(x.mean() - y.mean())
    assert intervals.over_clips("largest", np.array([[1.0], [3.0], [2.0]])) == 3


def test_what_is_not_defined_is_nan_without_a_warning(recwarn) -> None:
    nothing = np.stack([intervals.mean_sums([]), intervals.mean_sums([np.nan])])
    assert np.isnan(intervals.over_clips("mean", nothing))
    still = intervals.moments(np.full(9, 0.1), np.arange(9.0))[None]
    assert np.isnan(intervals.over_clips("correlation", still))
    assert intervals.over_clips("amplitude", still) == 0
    assert all(np.isnan(intervals.interval(intervals.resampled("mean", nothing))))
    assert not recwarn.list


def test_interval_of_a_rate_resamples_clips_and_not_phones() -> None:
    # 40 clips of 10 phones, all right or all wrong: phones of one clip tell nothing new.
    hits = [intervals.mean_sums(np.full(10, i % 2 == 0)) for i in range(40)]
    low, high = intervals.interval(intervals.resampled("mean", np.stack(hits)))
    assert low == pytest.approx(0.5 - 1.96 * 0.5 / np.sqrt(40), abs=0.03)
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / np.sqrt(40), abs=0.03)


def test_resampling_equals_picking_clips_one_by_one() -> None:
    sums = np.stack([intervals.moments(*clip) for clip in CLIPS])
    draws = intervals.resampled("correlation", sums)
    rng = np.random.default_rng(7)
    picked = []
    for _ in range(2000):
        chosen = [CLIPS[i] for i in rng.integers(0, 5, 5)]
        picked.append(np.corrcoef(*[np.concatenate(side) for side in zip(*chosen)])[0, 1])  # noqa: B905
    assert len(draws) == 2000
    assert intervals.interval(draws) == pytest.approx(np.percentile(picked, [2.5, 97.5]), abs=0.01)
    assert np.array_equal(draws, intervals.resampled("correlation", sums))


def test_paired_difference_is_narrower_than_the_two_intervals() -> None:
    hard = RNG.normal(5, 2, 30)  # what makes a clip hard is the same for both
    one, other = (np.stack([intervals.mean_sums([v]) for v in hard + d]) for d in (0, 0.1))
    change = intervals.resampled("mean", other) - intervals.resampled("mean", one)
    assert intervals.interval(change) == pytest.approx((0.1, 0.1))
    low, high = intervals.interval(intervals.resampled("mean", one))
    assert high - low > 0.5
