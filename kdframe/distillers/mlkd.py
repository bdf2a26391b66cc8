"""Multi-level KD: Jin et al. 2023, CVPR 2023, and the authors' code (paper from memory)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl, logits_of
from kdframe.distillers.ranges import above_0, one_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("mlkd", needs=("views", "global_batch"))
def mlkd(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0),
    variant: str = "paper",
) -> Tensor:
    """Matches probabilities, which images are alike and which classes go together.

        P       = softmax(z / T), (B, K) of a view
        l(T, v) = T^2 KL(P_teacher || P_student)                              kd, in nats
                + ||P_teacher P_teacher^T - P_student P_student^T||_F^2 / B   images
                + ||P_teacher^T P_teacher - P_student^T P_student||_F^2 / K   classes
        L       = the sum of l over temperatures and both views               variant "paper"

    0 for equal logits.  B images of each view; those of all processes.

    Variant "reference" is what the authors' code adds up, where masks meant for images (i: the
    teacher is no surer of it, at T 1, than the median) and for classes (c: its summed probability
    is at most the median) multiply losses that are sums already, so that only the share that
    they leave remains, a half without ties:

        L = the sum over temperatures of  i (kd + images) + c classes         all on the plain view
          + the sum over temperatures of  kd on the stronger view             for T 3, 4, 5
                                          kd on the plain view                for T 2, 6

    2 and 6 being the lowest and highest of ``temperatures``.

    Raises:
        ValueError: a wrong option, or an odd number of rows.

    Published: .9 beside a cross entropy of .1 on each view (on both together: .2), lr .025.
    """
    one_of("variant", variant, ("paper", "reference"))
    if not temperatures:
        raise ValueError("temperatures takes one number above 0 at least, not ().")
    for T in temperatures:
        above_0(temperatures=T)
    if len(student.logits) % 2:
        raise ValueError(
            f"a batch takes two views of each image, an even number of rows, not "
            f"{len(student.logits)}."
        )
    z_student, z_teacher = logits_of(student, teacher)
    plain, strong = zip(z_student.chunk(2), z_teacher.chunk(2), strict=True)
    losses = []
    if variant == "paper":
        for T in temperatures:
            for view in (plain, strong):
                losses += [soft(*view, T), *relations(*view, T)]
        return torch.stack(losses).sum()
    p = F.softmax(plain[1], dim=1)
    i, c = up_to_median(p.amax(dim=1)), up_to_median(p.sum(dim=0))
    for T in temperatures:
        kd = soft(*plain, T)
        images, classes = relations(*plain, T)
        at_an_end = T in (min(temperatures), max(temperatures))
        losses += [i * (kd + images) + c * classes, kd if at_an_end else soft(*strong, T)]
    return torch.stack(losses).sum()


def soft(z_student: Tensor, z_teacher: Tensor, T: float) -> Tensor:
    """T^2 KL."""
    return T**2 * kl(F.log_softmax(z_teacher / T, dim=1), F.log_softmax(z_student / T, dim=1))


def relations(z_student: Tensor, z_teacher: Tensor, T: float) -> tuple[Tensor, Tensor]:
    """The distances of the B x B and of the K x K products.

    With D, S the difference and the sum of P_teacher and P_student, and N = S D^T, they are
    ||(N + N^T) / 2||^2 and (<D D^T, S S^T> + <N, N^T>) / 2: no K x K matrix is made, which for 64
    images of 1000 classes is a tenth of the work.  Where B is above K the two change places.
    """
    B, K = z_student.shape
    P_student, P_teacher = F.softmax(z_student / T, dim=1), F.softmax(z_teacher / T, dim=1)
    D, S = P_teacher - P_student, P_teacher + P_student
    if B > K:
        D, S = D.T, S.T
    N = S @ D.T
    near = ((N + N.T) / 2).square().sum()
    far = ((D @ D.T) * (S @ S.T) + N * N.T).sum() / 2
    images, classes = (far, near) if B > K else (near, far)
    return images / B, classes / K


def up_to_median(values: Tensor) -> Tensor:
    """The share of the values that are no more than their median."""
    return (values <= values.quantile(0.5)).to(values.dtype).mean()
