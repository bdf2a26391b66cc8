"""Class attention transfer: Guo et al. 2023, arXiv:2304.12777, after the authors' code."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.classifiers import classifier_of_mean
from kdframe.distillers.logits import logits_of
from kdframe.distillers.maps import pooled
from kdframe.distillers.relations import units
from kdframe.registry import DISTILLERS


@DISTILLERS.register("catkd", needs=("teacher_classifier",))
class CATKD(nn.Module):
    """Matches where in the image the networks see each class.

        A_k = sum over c of  w_kc f_c             w the classifier's weight, f the last stage's map
        L   = mean( (A_student - A_teacher)^2 )   A average-pooled to ``size`` x ``size``

    The mean over images, classes and positions.  Where a map is smaller than that, both are pooled
    to it.  ``normalize`` divides each pooled A_k by its Euclidean norm, as the paper's text has it
    and the authors' configs don't.  0 for equal class maps.  A has no bias: the authors train
    students without one, here the student keeps its own.  The student's w is trained by this, too.

    Raises:
        ValueError: a wrong size, other numbers of classes, or a network whose logits aren't one
            linear layer over the mean of its last map.

    Published: with cross entropy, WEIGHT 15 (32x4), 12 (WRN), 4.5 (vgg13), .7 (r56).
    """

    def __init__(
        self, student: Backbone, teacher: Backbone, *, size: int = 2, normalize: bool = False
    ) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size takes an int from 1, not {size}.")
        logits_of(student.probe(), teacher.probe())
        self.size, self.normalize = size, normalize
        # in a tuple: the student's is learned and saved as the student's, the teacher's not at all
        self._classifiers = classifier_of_mean(student, "student"), classifier_of_mean(teacher)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        maps = student.features[-1], teacher.features[-1]
        height, width = (min(self.size, *(f.shape[i] for f in maps)) for i in (2, 3))
        A_student, A_teacher = (
            class_maps(pooled(f, height, width), classifier.weight)
            for f, classifier in zip(maps, self._classifiers, strict=True)
        )
        if self.normalize:
            A_student, A_teacher = (units(A, dim=2) for A in (A_student, A_teacher))
        return F.mse_loss(A_student, A_teacher)


def class_maps(f: Tensor, w: Tensor) -> Tensor:
    """A (B, K, HW)."""
    return w.to(f.dtype) @ f.flatten(2)
