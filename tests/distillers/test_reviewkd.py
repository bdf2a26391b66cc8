import pytest
import torch
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.distillers.reviewkd import HCL, ReviewKD


def output(embedding: Tensor, *features: Tensor) -> Output:
    return Output(torch.empty(len(embedding), 0), embedding, list(features))


def outputs() -> tuple[Output, Output]:
    """What the stub networks (2, 3, 4) and (2, 5, 6), strides (1, 2, 2) and (1, 2, 1), answer."""
    shapes = [(2, 8, 8), (3, 4, 4), (4, 2, 2)], [(2, 8, 8), (5, 4, 4), (6, 4, 4)]
    return tuple(
        output(
            torch.randn(3, sizes[-1][0], dtype=torch.float64),
            *(torch.randn(3, *size, dtype=torch.float64) for size in sizes),
        )
        for sizes in shapes
    )


def built(backbone, **options: object) -> ReviewKD:
    networks = backbone((2, 3, 4)), backbone((2, 5, 6), (1, 2, 1))
    return ReviewKD(*networks, **options).double()


def convolved(x: Tensor, conv: nn.Conv2d, pad: int) -> Tensor:
    """A float at a time."""
    W, b = conv.weight.tolist(), (conv.bias if conv.bias is not None else torch.zeros(99)).tolist()
    B, C, H, width = x.shape
    given, found = x.tolist(), torch.zeros(B, len(W), H, width, dtype=torch.float64)
    for n in range(B):
        for o in range(len(W)):
            for h in range(H):
                for w in range(width):
                    value = b[o]
                    for c in range(C):
                        for i in range(2 * pad + 1):
                            for j in range(2 * pad + 1):
                                y, z = h + i - pad, w + j - pad
                                if 0 <= y < H and 0 <= z < width:
                                    value += W[o][c][i][j] * given[n][c][y][z]
                    found[n, o, h, w] = value
    return found


def normed(x: Tensor) -> Tensor:
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt()


def nearest(x: Tensor, size: int) -> Tensor:
    index = [i * x.shape[2] // size for i in range(size)]
    return x[:, :, index][:, :, :, index]


def squares(x: Tensor, y: Tensor, side: int) -> float:
    """The mse of the means of side x side blocks."""
    blocks = []
    for f in (x, y):
        n = f.shape[2] // side
        rows = [
            f[:, :, i * n : i * n + n, j * n : j * n + n] for i in range(side) for j in range(side)
        ]
        blocks.append(torch.stack([block.mean((2, 3)) for block in rows]))
    return (blocks[0] - blocks[1]).square().mean().item()


def test_reviewkd_is_the_naive_sum_from_the_embedding_up(backbone) -> None:
    term = built(backbone)
    student, teacher = outputs()
    deepest, last, first = term.fusions
    levels = [  # the student's map, the teacher's, its size, the squares at each size
        (deepest, student.embedding[:, :, None, None], teacher.embedding[:, :, None, None], {1: 1}),
        (last, student.features[2], teacher.features[2], {4: 1, 2: 1 / 2, 1: 1 / 4}),
        (first, student.features[1], teacher.features[1], {4: 1, 2: 1 / 2, 1: 1 / 4}),
    ]
    total, left = 0.0, None
    for fusion, f_student, f_teacher, weights in levels:
        u = normed(convolved(f_student, fusion.enter[0], pad=0))
        assert u.shape[1] == 4
        if left is not None:
            left = nearest(left, u.shape[2])
            a = 1 / (1 + (-convolved(torch.cat([u, left], 1), fusion.attention, pad=0)).exp())
            u = u * a[:, 0, None] + left * a[:, 1, None]
        left = u = nearest(u, f_teacher.shape[2])
        out = normed(convolved(u, fusion.leave[0], pad=1))
        hcl = sum(w * squares(out, f_teacher, side) for side, w in weights.items())
        total += hcl / sum(weights.values())
    assert term(student, teacher, None).item() == pytest.approx(total)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 7])
def test_a_difference_of_1_everywhere_costs_1_at_any_size(size) -> None:
    f = torch.randn(2, 3, size, size, dtype=torch.float64)
    assert HCL(f + 1, f).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("size", "weights"),
    [(2, 1 + 1 / 2), (4, 1 + 1 / 2 + 1 / 4), (8, 1 + 1 / 2 + 1 / 4 + 1 / 8)],
)
def test_a_chessboard_of_differences_counts_once_and_is_gone_in_every_pooled_map(
    size, weights
) -> None:
    f = torch.randn(2, 3, size, size, dtype=torch.float64)
    board = (-1.0) ** (torch.arange(size)[:, None] + torch.arange(size))
    assert HCL(f + 2 * board, f).item() == pytest.approx(4 / weights)


def test_maps_that_are_no_squares_are_pooled_below_their_shorter_side() -> None:
    f = torch.randn(2, 3, 8, 2, dtype=torch.float64)
    assert HCL(f + 1, f).item() == pytest.approx(1)
    board = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(2))
    assert HCL(f + board, f).item() == pytest.approx(1 / (1 + 1 / 2))


def test_the_width_is_the_students_embeddings_512_at_most_or_the_options(backbone) -> None:
    wide = backbone((2, 3, 520))
    for term, width in (
        (ReviewKD(wide, backbone()), 512),
        (built(backbone), 4),
        (built(backbone, width=7), 7),
    ):
        assert {fusion.enter[0].out_channels for fusion in term.fusions} == {width}


def test_stages_may_be_named_in_pairs(backbone) -> None:
    term = built(backbone, stages=((2, 1),))
    assert [(f.enter[0].in_channels, f.leave[0].out_channels) for f in term.fusions] == [
        (4, 6),  # the embeddings
        (4, 5),
    ]
    assert term(*outputs(), None).isfinite()


def test_the_deepest_map_learns_from_the_shallowest_level(backbone) -> None:
    term = built(backbone)
    student, teacher = outputs()
    student.embedding.requires_grad_()
    gradients = []
    for sign in (1, -1):
        features = [teacher.features[0], sign * teacher.features[1], teacher.features[2]]
        loss = term(student, teacher._replace(features=features), None)
        gradients.append(torch.autograd.grad(loss, student.embedding)[0])
    assert not torch.allclose(*gradients)


def test_a_batch_of_one_is_refused_in_training_and_scored_in_eval_mode(backbone) -> None:
    term = built(backbone)
    one = [Output(o.logits[:1], o.embedding[:1], [f[:1] for f in o.features]) for o in outputs()]
    with pytest.raises(ValueError, match="a batch takes 2 at least, not 1"):
        term(*one, None)
    assert term.eval()(*one, None).isfinite()


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("width", -1, "width takes a number from 0, not -1"),
        ("stages", (9,), r"no stage \[9\]: this network has 0 to 2"),
    ],
)
def test_a_wrong_option_is_refused_while_the_term_is_built(
    backbone, option, wrong, message
) -> None:
    with pytest.raises(ValueError, match=message):
        ReviewKD(backbone(), backbone(), **{option: wrong})
