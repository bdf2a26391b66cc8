"""Likeness of networks: each figure by hand or by a second, naive way."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from kdframe.reports.similarity import (
    StageCKA,
    agreement,
    cka,
    correlation,
    correlation_difference,
    divergence,
    hsic,
    rank_agreement,
)


def test_cka_is_that_of_features() -> None:
    """Kornblith's equation, on features x features instead of images x images."""
    x, y = torch.randn(40, 5), torch.randn(40, 7) + 3
    x, y = x.double(), y.double()
    X, Y = x - x.mean(0), y - y.mean(0)
    by_features = (Y.T @ X).norm() ** 2 / ((X.T @ X).norm() * (Y.T @ Y).norm())
    assert cka(x, y) == pytest.approx(float(by_features))


def test_cka_ignores_turns_scale_and_shift() -> None:
    x = torch.randn(30, 6, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    assert cka(x, 2.5 * x @ turn + 7) == pytest.approx(1.0)


def test_cka_of_maps_takes_every_pixel() -> None:
    x, y = torch.randn(12, 3, 4, 4), torch.randn(12, 2, 8, 8)
    assert cka(x, y) == pytest.approx(cka(x.flatten(1), y.flatten(1)))


def test_cka_refuses_what_has_no_answer() -> None:
    with pytest.raises(ValueError, match="same images twice, not 3 and 4"):
        cka(torch.randn(3, 2), torch.randn(4, 2))
    with pytest.raises(ValueError, match="says the same of each"):
        cka(torch.randn(4, 2), torch.ones(4, 2))


def naive_hsic(K: np.ndarray, L: np.ndarray) -> float:
    """Song et al. 2012, equation 4: sums over tuples of different images."""
    n = len(K)
    falling = lambda k: math.prod(range(n - k + 1, n + 1))  # noqa: E731
    two = sum(K[i, j] * L[i, j] for i, j in itertools.permutations(range(n), 2))
    three = sum(K[i, j] * L[i, q] for i, j, q in itertools.permutations(range(n), 3))
    four = sum(K[i, j] * L[q, r] for i, j, q, r in itertools.permutations(range(n), 4))
    return two / falling(2) + four / falling(4) - 2 * three / falling(3)


def test_hsic_is_the_sum_over_tuples_of_images() -> None:
    x, y = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    y[:, 0] += x[:, 0]
    K, L = x @ x.T, y @ y.T
    assert float(hsic(K, L)) == pytest.approx(naive_hsic(K.numpy(), L.numpy()))
    with pytest.raises(ValueError, match="4 images or more, not 3"):
        hsic(K[:3, :3], L[:3, :3])


def test_stages_of_a_network_are_like_themselves() -> None:
    stages = [torch.randn(20, 3, 4, 4), torch.randn(20, 8)]
    similar = StageCKA()
    similar.add(stages, stages)
    found = similar.result()
    assert found.diag().tolist() == pytest.approx([1.0, 1.0])
    assert found[0, 1] == pytest.approx(found[1, 0])


def test_stage_cka_is_not_biased_by_wide_layers() -> None:
    """Layers that have nothing to do with each other: 0, where the plain estimate says 0.9."""
    similar, plain = StageCKA(), []
    for _ in range(30):
        x, y = torch.randn(16, 200), torch.randn(16, 200)
        similar.add([x], [y])
        plain.append(cka(x, y))
    assert abs(float(similar.result())) < 0.05
    assert min(plain) > 0.8


def test_stage_cka_is_the_ratio_of_mean_hsics() -> None:
    batches = [(torch.randn(n, 4).double(), torch.randn(n, 3).double()) for n in (8, 5, 6)]
    batches = [(x, y + x[:, :3]) for x, y in batches]
    similar = StageCKA()
    for x, y in [*batches, (torch.randn(3, 4), torch.randn(3, 3))]:  # the last says nothing
        similar.add([x], [y])
    grams = [((x @ x.T).numpy(), (y @ y.T).numpy()) for x, y in batches]
    kl, kk, ll = (sum(naive_hsic(g[i], g[j]) for g in grams) for i, j in ((0, 1), (0, 0), (1, 1)))
    assert float(similar.result()) == pytest.approx(kl / math.sqrt(kk * ll))
    assert similar.images == 19


def test_a_stage_that_tells_nothing_apart_has_no_cka() -> None:
    similar = StageCKA()
    with pytest.raises(ValueError, match="a batch of 4 images"):
        similar.result()
    similar.add([torch.zeros(8, 3)], [torch.randn(8, 3)])
    assert similar.result().isnan().all()


@pytest.mark.parametrize("value", [0.3701, 1.7, 1e3])
def test_nor_has_one_that_tells_apart_by_rounding_alone(value) -> None:
    """The same row for each image, whose inner products float32 adds up in several orders."""
    torch.manual_seed(0)
    row, other = value * torch.rand(1, 512).repeat(128, 1), torch.randn(128, 64)
    similar = StageCKA()
    similar.add([row + 1e-8 * torch.randn(128, 512), other], [row, other])
    found = similar.result()
    assert found[0].isnan().all() and found[:, 0].isnan().all() and float(found[1, 1]) > 0.99


def test_agreement_by_hand() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    teacher = torch.tensor([[5.0, 0.0], [1.0, 0.0], [3.0, 1.0], [0.0, 1.0]])
    assert agreement(student, teacher) == 75.0


def test_divergence_by_hand() -> None:
    """p = (3/4, 1/4) of the teacher, q = (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2."""
    teacher, student = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    by_hand = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert divergence(student, teacher) == pytest.approx(by_hand, rel=1e-6)
    assert divergence(teacher, teacher) == pytest.approx(0.0, abs=1e-9)


def test_ranks_are_scipys_with_ties(monkeypatch) -> None:
    """Whatever number of images fits in memory at once."""
    student, teacher = torch.randint(0, 5, (9, 12)).float(), torch.randn(9, 12)
    teacher[:, 3] = teacher[:, 7]
    pairs = list(zip(student.numpy(), teacher.numpy(), strict=True))
    tau = np.mean([scipy.stats.kendalltau(a, b).statistic for a, b in pairs])
    rho = np.mean([scipy.stats.spearmanr(a, b).statistic for a, b in pairs])
    for memory in (2**22, 300, 1):
        monkeypatch.setattr("kdframe.reports.similarity.PAIRS", memory)
        assert rank_agreement(student, teacher) == pytest.approx((tau, rho))


def test_ranks_of_one_class_or_of_no_order() -> None:
    assert rank_agreement(torch.zeros(2, 3), torch.randn(2, 3)) == (0.0, 0.0)
    with pytest.raises(ValueError, match="two classes or more, not 1"):
        rank_agreement(torch.zeros(2, 1), torch.zeros(2, 1))


def test_correlation_is_numpys() -> None:
    logits = torch.randn(50, 6)
    logits[:, 1] += 2 * logits[:, 0]
    np.testing.assert_allclose(correlation(logits), np.corrcoef(logits.double().numpy().T))


def test_a_class_that_never_moves_is_correlated_with_itself_alone() -> None:
    logits = torch.randn(10, 3)
    logits[:, 1] = 4.0
    assert correlation(logits)[1].tolist() == [0.0, 1.0, 0.0]


def test_a_student_that_says_the_teachers_logits_differs_in_nothing() -> None:
    teacher = torch.randn(30, 5)
    difference = correlation_difference(2 * teacher + 1, teacher)
    torch.testing.assert_close(difference, torch.zeros(5, 5).double(), rtol=0, atol=1e-6)
    assert not correlation_difference(torch.randn(30, 5), teacher).allclose(difference, atol=0.05)
