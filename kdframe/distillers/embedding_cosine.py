"""Angle of embeddings: Chariton 2023, "Knowledge Distillation Tutorial" of PyTorch tutorials."""

from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.relations import units
from kdframe.registry import DISTILLERS


@DISTILLERS.register("embedding_cosine")
class EmbeddingCosine(nn.Module):
    """Turns the student's embedding towards the teacher's.

        L = mean over images of  1 - cos(P h_student, h_teacher)

    In 0..2; 0 for embeddings of one direction, whatever their lengths.  P is a learned linear map
    without bias where the sizes differ, and nothing where they are equal.  Departs from the
    tutorial, whose h is the flattened last map, and the teacher's is average-pooled over
    neighbouring values to the student's size instead of a P.

    Published: 0.75 cross_entropy + 0.25 embedding_cosine.
    """

    def __init__(self, student: Backbone, teacher: Backbone) -> None:
        super().__init__()
        sizes = student.embedding_size, teacher.embedding_size
        self.P = nn.Identity() if sizes[0] == sizes[1] else nn.Linear(*sizes, bias=False)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        h_student, h_teacher = units(self.P(student.embedding)), units(teacher.embedding)
        return (1 - (h_student * h_teacher).sum(dim=1)).mean()
