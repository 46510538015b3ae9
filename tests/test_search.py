"""The search for the best rows of a bank against all of them in float64, on banks made to mislead a fast product."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import farfield as ff
from farfield.detectors import KNN, base, knn, search

K, D, ROWS = 5, 32, 700  # rows that are no multiple of the block
FAST = (torch.float32, torch.bfloat16)


def normal(n: int, d: int = D, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


BANKS = {
    "directions": torch.nn.functional.normalize(normal(ROWS)),
    "duplicates": normal(7).repeat(ROWS // 7, 1),
    "ten copies of each": normal(ROWS // 10).repeat_interleave(10, 0),
    "near ties within the rounding of bfloat16": normal(1) + 1e-4 * normal(ROWS, seed=2),
    "tight clusters far from zero": 1000 + normal(7).repeat_interleave(ROWS // 7, 0) + 1e-3 * normal(ROWS, seed=2),
    "one huge row": torch.cat([normal(ROWS - 1), 1e6 * normal(1, seed=2)]),
    "zero rows": torch.cat([torch.zeros(ROWS // 2, D), normal(ROWS // 2)]),
    "only zero rows": torch.zeros(ROWS, D),
    "tiny rows": 1e-22 * normal(ROWS),
    "ever nearer": normal(1, seed=1) * torch.linspace(-1, 1, ROWS)[:, None],
    "many lengths": normal(ROWS) * torch.logspace(-6, 6, ROWS)[:, None],
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and banks of a size for tests."""
    monkeypatch.setattr(search, "_BLOCK", 64)
    monkeypatch.setattr(search, "_WORTH", 0)
    monkeypatch.setattr(search, "_GATHERED", 100 * D)


@pytest.fixture
def fallen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many queries went over the whole bank in float64, call by call."""
    counts: list[int] = []
    whole = search.exact

    def counted(z: Tensor, bank: Tensor, k: int, *, nearest: bool = False) -> Tensor:
        counts.append(len(z))
        return whole(z, bank, k, nearest=nearest)

    monkeypatch.setattr(search, "exact", counted)
    yield counts


def brute(z: Tensor, bank: Tensor, k: int, nearest: bool) -> Tensor:
    """The k best in float64, best first."""
    a, b = z.double(), bank.double()
    values = torch.stack([-(row - b).square().sum(1).sqrt() if nearest else b @ row for row in a])
    return values.sort(1, descending=True).values[:, :k]


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize("name", BANKS)
def test_it_is_all_rows_in_float64(monkeypatch: pytest.MonkeyPatch, name: str, nearest: bool, fast: torch.dtype) -> None:
    monkeypatch.setattr(search, "_fast", lambda _: fast)
    for bank in (BANKS[name], BANKS[name].half()):
        if bank.isinf().any():
            continue
        z = torch.cat([bank[:20].float() + 0.01 * normal(20, seed=3), bank[20:30].float(), normal(10, seed=4), torch.zeros(1, D)])
        expected = brute(z, bank, K, nearest)
        lengths, longest = z.double().norm(dim=1, keepdim=True), bank.double().norm(dim=1).max()
        scale = longest + lengths if nearest else longest * lengths
        got = search.largest(z, bank, K, nearest=nearest).sort(1, descending=True).values
        assert ((got - expected).abs() <= 1e-14 * scale).all()
        last = search.largest(z, bank, K, nearest=nearest, only_last=True).amin(1)
        assert ((last - expected[:, -1]).abs() <= 1e-14 * scale.flatten()).all()


@pytest.mark.parametrize("k", [1, 63, 87, 88, 700])
def test_any_k_up_to_the_bank(k: int) -> None:
    z, bank = normal(9, seed=1), normal(ROWS)
    for nearest in (True, False):
        got = search.largest(z, bank, k, nearest=nearest).sort(1, descending=True).values
        np.testing.assert_allclose(got, brute(z, bank, k, nearest), rtol=1e-13, atol=1e-13)


def test_more_queries_than_a_detector_gives_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, some = ff.Outputs(features=normal(ROWS)), ff.Outputs(features=normal(50, seed=1))
    detector = KNN.fit(bank, k=K)
    together = detector(some)
    monkeypatch.setattr(search, "ROWS", 7)
    np.testing.assert_allclose(detector(some), together, rtol=1e-7)


def test_few_candidates_need_no_whole_bank_and_too_many_do(fallen: list[int]) -> None:
    z = torch.cat([normal(1), normal(6, seed=1)])
    search.largest(z, normal(ROWS), K, nearest=True)
    assert fallen == []
    # Of 84 and more copies of the nearest no product can tell which are the 5 nearest; three queries are at other distances, of 60 copies.
    copies, others = normal(1, seed=5).repeat(100, 1), normal(10, seed=6).repeat(60, 1)
    z = torch.cat([copies[:4] + 0.01, others[:3] + 0.01])
    got = search.largest(z, torch.cat([copies, others]), K, nearest=True)
    assert fallen == [4]
    np.testing.assert_allclose(got.sort(1, descending=True).values, brute(z, torch.cat([copies, others]), K, True), rtol=1e-12)


def test_what_is_no_number_gives_no_number(fallen: list[int]) -> None:
    z = normal(3)
    z[1, 2] = torch.nan
    got = search.largest(z, normal(ROWS), K, nearest=True)
    assert (fallen, got.isnan().any(1).tolist()) == ([1], [False, True, False])


@pytest.mark.parametrize("fast", FAST)
def test_rows_too_long_for_float32_products_are_taken_in_float64(monkeypatch: pytest.MonkeyPatch, fast: torch.dtype) -> None:
    monkeypatch.setattr(search, "_fast", lambda _: fast)
    z, bank = normal(9, seed=1), normal(ROWS)
    bank[[3, 695]] *= 1e25
    z[1] = 1e30
    for nearest in (True, False):
        got = search.largest(z, bank, K, nearest=nearest).sort(1, descending=True).values
        np.testing.assert_allclose(got, brute(z, bank, K, nearest), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    scales=st.tuples(st.floats(-8, 8), st.floats(-8, 8), st.floats(0, 6)),
    d=st.integers(1, 70),
    fast=st.sampled_from(FAST),
    nearest=st.booleans(),
)
def test_the_bound_holds(seed: int, scales: tuple[float, float, float], d: int, fast: torch.dtype, nearest: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(7, d, generator=random, dtype=torch.float64) * 10 ** scales[0]
    rows = torch.randn(11, d, generator=random) * 10 ** scales[1] * torch.logspace(0, scales[2], 11)[:, None]
    rows[3] = z[2].float()
    low = z.to(fast)
    numbers, margin = search._numbers(low, z.norm(dim=1), (z - low.double()).norm(dim=1), rows, nearest)
    exact = z @ rows.double().T - (rows.double().square().sum(1) / 2 if nearest else 0)
    assert ((numbers - exact).abs() <= margin[:, None].double()).all()


def test_the_bound_is_not_idle() -> None:
    """A tenth of it is too little somewhere, for bfloat16: it is of the size of the error."""
    z, rows = torch.full((1, 4), 1 + 2**-8, dtype=torch.float64), torch.full((1, 4), 1 + 2**-8)
    low = z.bfloat16()
    numbers, margin = search._numbers(low, z.norm(dim=1), (z - low.double()).norm(dim=1), rows, False)
    assert (numbers - z @ rows.double().T).abs() > margin / 10


def test_a_process_that_lets_float32_products_be_coarse_is_believed() -> None:
    before = torch.get_float32_matmul_precision()
    z, bank = normal(20, seed=1), 1 + 1e-3 * normal(ROWS)
    expected = brute(z, bank, K, True)
    try:
        assert search._loose("cpu") == 0
        torch.set_float32_matmul_precision("medium")
        assert search._loose("cpu") > 0
        got = search.largest(z, bank, K, nearest=True)
        assert torch.get_float32_matmul_precision() == "medium"  # nothing here changes it
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_allclose(got.sort(1, descending=True).values, expected, rtol=1e-13)


def test_gradients_flow_where_they_are_wanted() -> None:
    z = normal(3, seed=1).requires_grad_()
    search.largest(z, normal(ROWS), K, nearest=True).sum().backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None and z.grad.abs().sum() > 0


@pytest.mark.parametrize("bits", [16, 32])
def test_a_large_bank_is_mapped_from_file_to_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bits: int) -> None:
    some, query = ff.Outputs(features=normal(ROWS)), ff.Outputs(features=normal(20, seed=1))
    chunks = [some[start : start + 150] for start in range(0, ROWS, 150)]
    small = KNN.fit(chunks, k=K, bits=bits)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for module in (base, knn):
        monkeypatch.setattr(module, "LARGE", 1000)
    large = KNN.fit(chunks, k=K, bits=bits)
    assert list(tmp_path.iterdir()) == []  # its file has no name
    large.save(tmp_path / "d.safetensors")
    for detector in (large, ff.load(tmp_path / "d.safetensors")):
        assert isinstance(detector, KNN) and torch.equal(detector.bank, small.bank)
        assert torch.equal(detector(query), small(query))


def test_a_large_bank_is_kept_in_memory_where_no_file_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(knn, "LARGE", 1000)
    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    some = ff.Outputs(features=normal(ROWS))
    assert KNN.fit(some, k=1)(some).abs().max() == 0


def test_numbers_that_16_bits_cannot_hold_are_refused() -> None:
    some = ff.Outputs(features=normal(ROWS), logits=70_000 + normal(ROWS, 3))
    with pytest.raises(ff.InputError, match=r"NNGuide with bits=16 cannot keep the number [\d.e+]+, beyond 65,504\. Use bits=32\."):
        ff.CATALOGUE["nnguide"].fit(ff.Outputs(features=torch.eye(ROWS, D) + 1e-6, logits=some.logits), bits=16)
