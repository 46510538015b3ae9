"""Streamed statistics against the same numbers computed at once, in the plainest way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from farfield.errors import InputError
from farfield.stats import ClassMoments, Quantiles, Sample, hashed, inverse_root, split


def made(n: int, d: int, c: int, offset: float = 0.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(c, (n,), generator=random)
    return torch.randn(n, d, generator=random) + 3 * labels[:, None] + offset, labels


def pooled(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Within-class covariance, one sample at a time, about means that are exact."""
    a, labels = x.double().numpy(), y.numpy()
    total = np.zeros((a.shape[1], a.shape[1]))
    for label in np.unique(labels):
        rows = a[labels == label]
        mean = rows.mean(0)
        for row in rows:
            total += np.outer(row - mean, row - mean)
    return total / len(a)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_class_moments_are_those_of_a_loop(offset: float, chunk: int) -> None:
    x, y = made(300, 5, 4, offset)
    moments = ClassMoments()
    for start in range(0, 300, chunk):
        moments.update(x[start : start + chunk], y[start : start + chunk])
    np.testing.assert_allclose(moments.within(), pooled(x, y), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(moments.mean(), x.double().mean(0), rtol=1e-13)
    for label in range(4):
        np.testing.assert_allclose(moments.means()[label], x[y == label].double().mean(0), rtol=1e-13)
    assert moments.counts.tolist() == torch.bincount(y).tolist()
    assert moments.total == 300


def test_class_moments_merge_whatever_each_saw() -> None:
    x, y = made(400, 6, 5, 1e3)
    whole = ClassMoments()
    whole.update(x, y)
    # Shards in which classes are missing, come first elsewhere, or are all there is.
    shards = [y == 4, (y != 4) & (torch.arange(400) % 3 == 0), (y != 4) & (torch.arange(400) % 3 != 0)]
    for order in ([0, 1, 2], [2, 0, 1]):
        merged = ClassMoments()
        merged.merge(ClassMoments())
        for shard in order:
            part = ClassMoments()
            part.update(x[shards[shard]], y[shards[shard]])
            merged.merge(part)
        np.testing.assert_allclose(merged.within(), whole.within(), rtol=1e-9)
        np.testing.assert_allclose(merged.means(), whole.means(), rtol=1e-13)
        assert merged.counts.tolist() == whole.counts.tolist()


def test_class_moments_leave_out_classes_without_samples() -> None:
    moments = ClassMoments()
    moments.update(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([4, 4, 1]))
    assert moments.means().flatten().tolist() == [7.0, 2.0]
    moments.update(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))
    assert moments.total == 3


def test_class_moments_refuse_another_width() -> None:
    moments = ClassMoments()
    moments.update(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="4 features where earlier ones had 3"):
        moments.update(torch.zeros(2, 4), torch.tensor([0, 1]))


def test_inverse_root_of_a_full_matrix_is_its_inverse_also_in_uneven_units() -> None:
    x, _ = made(100, 6, 1)
    units = torch.tensor([1e-6, 1e-3, 1.0, 1e2, 1e4, 1e6], dtype=torch.float64)
    sigma = torch.cov(x.T.double(), correction=0)
    root, rank = inverse_root(sigma * units[:, None] * units, torch.ones(6, dtype=torch.float64))
    assert rank == 6
    np.testing.assert_allclose(root @ root.T, torch.linalg.inv(sigma) / units[:, None] / units, rtol=1e-9)


def test_inverse_root_of_a_singular_matrix_is_its_pseudo_inverse() -> None:
    x, _ = made(4, 9, 1)
    sigma = torch.cov(x.T.double(), correction=0)
    root, rank = inverse_root(sigma, torch.ones(9, dtype=torch.float64))
    assert rank == 3
    np.testing.assert_allclose(root @ root.T, np.linalg.pinv(sigma.numpy(), hermitian=True, rcond=1e-10), rtol=1e-6, atol=1e-12)


def test_a_constant_feature_does_not_vary_whatever_rounding_says() -> None:
    sigma = torch.diag(torch.tensor([1.0, 1e-33], dtype=torch.float64))
    root, rank = inverse_root(sigma, torch.tensor([0.0, 0.1], dtype=torch.float64))
    assert rank == 1
    assert root[1].abs().max() == 0


def streamed(values: np.ndarray, probabilities: list[float], parts: int = 3, dtype: torch.dtype = torch.float32) -> list[float]:
    """Quantiles of values that come in parts."""
    whole = Quantiles(probabilities)
    for _ in whole.passes():
        for part in np.array_split(values, parts):
            whole.update(torch.from_numpy(part).to(dtype))
    return whole.values()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
)
def test_quantiles_are_numpys(values: np.ndarray, probabilities: list[float]) -> None:
    exact = np.sort(values.astype(np.float64))
    for probability, found in zip(probabilities, streamed(values, probabilities), strict=True):
        position = probability * (len(exact) - 1)
        low = int(position)
        high = min(low + 1, len(exact) - 1)
        expected = exact[low] + (exact[high] - exact[low]) * (position - low)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-37)


def test_quantiles_at_ranks_are_the_numbers_themselves() -> None:
    values = np.random.default_rng(0).standard_normal(10_001).astype(np.float32) * 1e-3
    for probability in (0.0, 0.25, 0.5, 0.9, 1.0):
        assert streamed(values, [probability])[0] == np.sort(values)[round(probability * 10_000)]


def test_quantiles_of_halves_and_of_zeros_of_both_signs() -> None:
    values = np.array([-0.0, 0.0, -1.5, 2.5, 0.0], np.float32)
    assert streamed(values, [0.5, 0.0, 1.0], dtype=torch.float16) == [0.0, -1.5, 2.5]


def test_quantiles_merge() -> None:
    values = torch.from_numpy(np.random.default_rng(1).gamma(2.0, size=999).astype(np.float32))
    shards = [Quantiles([0.1, 0.93]) for _ in range(3)]
    for shard, part in zip(shards, values.split(333), strict=True):
        shard.update(part)
    for shard in shards[1:]:
        shards[0].merge(shard)
    shards[0].second_pass()
    for part in values.split(400):
        shards[0].update(part)
    np.testing.assert_allclose(shards[0].values(), np.quantile(values.double().numpy(), [0.1, 0.93]), rtol=1e-7)


def test_a_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no numbers"):
        Quantiles([0.5]).second_pass()


def test_a_sample_does_not_depend_on_the_order_or_the_shards() -> None:
    random = torch.Generator().manual_seed(0)
    ids = torch.randperm(500, generator=random)
    labels = ids % 7
    rows = ids[:, None].float()
    whole = Sample(limit=5, seed=3)
    whole.update(rows, labels, ids)
    shards = [Sample(limit=5, seed=3) for _ in range(4)]
    for shard, part in zip(shards, torch.arange(500).flip(0).split(125), strict=True):
        shard.update(rows[part], labels[part], ids[part])
    for shard in shards[1:]:
        shards[0].merge(shard)
    assert torch.equal(whole.rows, shards[0].rows)
    assert torch.bincount(whole.labels).tolist() == [5] * 7
    other = Sample(limit=5, seed=4)
    other.update(rows, labels, ids)
    assert not torch.equal(other.rows, whole.rows)


def test_the_hash_is_splitmix64() -> None:
    """The first outputs of the published generator seeded with 0 are the mixed multiples of its increment."""
    reference = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    assert [mix(0x9E3779B97F4A7C15 * (i + 1) % 2**64) for i in range(3)] == reference
    for id_ in (0, 5, 2**40):
        expected = mix(mix((id_ + 0x9E3779B97F4A7C15) % 2**64) % 2**64)
        assert int(hashed(torch.tensor([id_]), 0)) % 2**64 == expected


def test_split_adds_up() -> None:
    x = torch.randn(50, dtype=torch.float64) * 1e3
    coarse, rest = split(x)
    assert coarse.dtype == rest.dtype == torch.float32
    np.testing.assert_allclose(coarse.double() + rest.double(), x, rtol=1e-14)
