import math

import pytest
import torch
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.distillers import ickd as file
from kdframe.registry import DISTILLERS

ICKD = DISTILLERS["ickd"]


def output(*features: Tensor) -> Output:
    return Output(torch.empty(len(features[0]), 0), torch.empty(0), list(features))


def bare(term: nn.Module) -> nn.Module:
    """The term with the connectors left out, for maps of equal channels."""
    term.connectors = nn.ModuleList(nn.Identity() for _ in term.connectors)
    return term


def test_ickd_by_hand(backbone) -> None:
    """One image, two channels of 1x2: (1, 0) and (1, 1) give rows (1, 1), (1, 2); (1, 0), (0, 2)
    give (1, 0), (0, 4)."""
    term = bare(ICKD(backbone((2,)), backbone((2,)), stages=(0,)))
    student = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    teacher = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
    a, b = 1 / math.sqrt(2), 1 / math.sqrt(5)
    squares = (a - 1) ** 2 + a**2 + b**2 + (2 * b - 1) ** 2
    assert term(output(student), output(teacher), None).item() == pytest.approx(squares / 2)


def test_ickd_is_the_naive_sum_over_stages_with_a_learned_convolution(backbone) -> None:
    term = ICKD(backbone((2, 3)), backbone((4, 5)), stages=(0, 1)).double()
    student = [torch.randn(3, c, 2, 2, dtype=torch.float64) for c in (2, 3)]
    teacher = [torch.randn(3, c, 3, 1, dtype=torch.float64) for c in (4, 5)]
    total = 0.0
    for i, C in ((0, 4), (1, 5)):
        W = term.connectors[i][0].weight[:, :, 0, 0]
        mapped = torch.einsum("oc,bcn->bon", W, student[i].flatten(2))
        mean = mapped.mean((0, 2))[:, None]
        var = ((mapped - mean) ** 2).mean((0, 2))[:, None]
        mapped = (mapped - mean) / (var + 1e-5).sqrt()
        for n in range(3):
            G = []
            for f in (mapped[n].tolist(), teacher[i][n].flatten(1).tolist()):
                rows = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in f] for a in f]
                G.append([x / math.sqrt(sum(y * y for y in row)) for row in rows for x in row])
            total += sum((s - t) ** 2 for s, t in zip(*G, strict=True)) / (3 * C)
    assert term(output(*student), output(*teacher), None).item() == pytest.approx(total)


def test_few_images_at_a_time_give_the_same_loss_and_gradient(backbone, monkeypatch) -> None:
    term = ICKD(backbone(), backbone())
    maps = torch.randn(5, 4, 2, 2)
    student, teacher, results = [maps] * 3, output(*[torch.randn(5, 4, 3, 3)] * 3), []
    for chunk in (2**24, 33, 1):
        monkeypatch.setattr(file, "CHUNK", chunk)
        f = maps.clone().requires_grad_()
        loss = term(output(*student[:2], f), teacher, None)
        loss.backward()
        results.append((loss, f.grad))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_a_scale_of_an_image_and_a_shuffle_of_its_positions_mean_nothing(backbone) -> None:
    term = bare(ICKD(backbone((3,)), backbone((3,)), stages=(0,)))
    student = torch.randn(4, 3, 2, 3)
    shuffled = student.flatten(2)[:, :, [4, 1, 0, 5, 3, 2]].view(4, 3, 3, 2)
    scaled = shuffled * torch.tensor([1.0, 3.0, 0.2, 50.0]).view(4, 1, 1, 1)
    assert term(output(student), output(scaled), None).item() == pytest.approx(0, abs=1e-10)


def test_a_dead_map_has_a_finite_gradient(backbone) -> None:
    term = ICKD(backbone((2,)), backbone((3,)), stages=(0,))
    student = torch.zeros(2, 2, 2, 2, requires_grad=True)
    term(output(student), output(torch.zeros(2, 3, 2, 2)), None).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_a_wrong_stage_is_refused_while_the_term_is_built(backbone) -> None:
    with pytest.raises(ValueError, match=r"no stage \[9\]: this network has 0 to 2"):
        ICKD(backbone(), backbone(), stages=(9,))
