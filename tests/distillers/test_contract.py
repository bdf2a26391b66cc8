"""What every registered term holds, whoever wrote it."""

import copy
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import kdframe.distillers
from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS

SHAPES = {  # (C, H, W) a stage: what the stub networks below give
    "student": [(2, 8, 8), (3, 4, 4), (4, 2, 2)],
    "teacher": [(2, 8, 8), (5, 4, 4), (6, 4, 4)],
}
NO_SLOPE = {  # terms whose gradient isn't that of their value, and why
    "wsld": "the weight of an image is a constant of the step",
    "byot": "the last classifier teaches, and is held constant",
    "uskd": "the student's own probabilities are its labels, and are held constant",
    "crd": "the first batch, which is any batch here, also sets the constant Z",
}
OF_AN_ORDER = {  # terms whose value depends on the order of the batch, and why
    "mgd": "a mask is drawn for each row",
    "semckd": "its queries and keys read an image's likenesses by place in the batch",
}
NO_ARXIV = {  # terms whose source has no arXiv number: where it appeared
    "embedding_cosine": "PyTorch tutorials",
    "fsp": "CVPR 2017",
    "irg": "CVPR 2019",
    "mlkd": "CVPR 2023",
    "srrl": "ICLR 2021",
}


class Term:
    """A registered term as kdframe calls it; each call starts from the same state and seed."""

    def __init__(self, name: str, backbone: Callable, classes: int = 5) -> None:
        part, self.needs = DISTILLERS[name], DISTILLERS.needs(name)
        self.name, self.loss = name, part
        if inspect.isclass(part):
            student = backbone((2, 3, 4), (1, 2, 2), classes)
            teacher = backbone((2, 5, 6), (1, 2, 1), classes)
            assert [n.shapes for n in (student, teacher)] == list(SHAPES.values())
            self.loss = part(student, teacher)
            if "labels" in self.needs:
                self.loss.set_labels(torch.arange(12) % classes)

    def __call__(self, student: Output, teacher: Output, batch: Batch, **changed) -> Tensor:
        torch.manual_seed(0)
        handed = (teacher, teacher) if "teachers" in self.needs else teacher
        loss = copy.deepcopy(self.loss) if isinstance(self.loss, nn.Module) else self.loss
        return changed.get("loss", loss)(student, handed, batch)

    def parameters(self) -> list[nn.Parameter]:
        own = self.loss.parameters() if isinstance(self.loss, nn.Module) else []
        return [p for p in own if p.requires_grad]


@pytest.fixture(params=list(DISTILLERS))
def term(request, backbone) -> Term:
    return Term(request.param, backbone)


def output(network: str, size: int = 6, classes: int = 5) -> Output:
    shapes = SHAPES[network]
    logits, embedding = torch.randn(size, classes), torch.randn(size, shapes[-1][0])
    return Output(logits, embedding, [torch.randn(size, *shape) for shape in shapes])


def each(change: Callable[[Tensor], Tensor], given: Output) -> Output:
    return Output(
        change(given.logits), change(given.embedding), [change(f) for f in given.features]
    )


def batch(size: int = 6, classes: int = 5) -> Batch:
    target = torch.arange(size) % classes
    return Batch(torch.randn(size, 3, 8, 8), target, torch.arange(size), 0.0)


@pytest.mark.parametrize("name", list(DISTILLERS))
@pytest.mark.parametrize(("size", "classes"), [(6, 5), (6, 2), (2, 5), (2, 2)])
def test_a_term_is_one_finite_number(name, backbone, size, classes) -> None:
    term = Term(name, backbone, classes)
    loss = term(
        output("student", size, classes), output("teacher", size, classes), batch(size, classes)
    )
    assert loss.shape == ()
    assert loss.isfinite()


def test_a_batch_of_one_gives_a_finite_number_or_is_refused_in_a_sentence(term) -> None:
    if "views" in term.needs:
        pytest.skip("two views of an image are two rows")
    try:
        loss = term(output("student", 1), output("teacher", 1), batch(1))
    except ValueError as error:
        assert "a batch takes" in str(error)
    else:
        assert loss.isfinite()


def test_the_gradient_reaches_the_student_and_what_is_learned_but_not_the_teacher(term) -> None:
    student, teacher = each(Tensor.requires_grad_, output("student")), output("teacher")
    loss = copy.deepcopy(term.loss)
    term(student, teacher, batch(), loss=loss).backward()
    gradients = [t.grad for t in (student.logits, student.embedding, *student.features)]
    assert any(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)
    assert all(t.grad is None for t in (teacher.logits, teacher.embedding, *teacher.features))
    if isinstance(loss, nn.Module):
        assert all(p.grad is not None for p in loss.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", list(DISTILLERS))
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("shared", [True, False], ids=["same class", "other class"])
def test_logits_1e3_apart_give_a_finite_loss_and_gradient(name, backbone, classes, shared) -> None:
    term = Term(name, backbone, classes)
    student, teacher = output("student", 6, classes), output("teacher", 6, classes)
    sign = torch.linspace(-500, 500, classes).expand(6, -1)
    student = student._replace(logits=sign.clone())
    teacher = teacher._replace(logits=sign if shared else -sign)
    student = each(Tensor.requires_grad_, student)
    loss = term(student, teacher, batch(6, classes))
    loss.backward()
    assert loss.isfinite()
    assert student.logits.grad is None or student.logits.grad.isfinite().all()


def test_a_dead_image_and_a_dead_channel_give_no_huge_gradient(term) -> None:
    """A map of zeros has no direction: 1e12 of slope, as of F.normalize, would end a training."""
    dead = output("student")
    for f in (dead.embedding, *dead.features):
        f[0] = 0
        f[:, 0] = 0
    student = each(Tensor.requires_grad_, dead)
    loss = copy.deepcopy(term.loss)
    term(student, output("teacher"), batch(), loss=loss).backward()
    learned = loss.parameters() if isinstance(loss, nn.Module) else ()
    for t in (student.logits, student.embedding, *student.features, *learned):
        assert t.grad is None or t.grad.abs().max() < 1e4


def test_the_order_of_the_batch_means_nothing(term) -> None:
    if term.name in OF_AN_ORDER:
        pytest.skip(OF_AN_ORDER[term.name])
    student, teacher, given = output("student"), output("teacher"), batch()
    turn = torch.tensor([2, 0, 1, 5, 3, 4])  # keeps to the halves, which may be two views
    turned = Batch(given.image[turn], given.target[turn], given.item[turn], given.epoch)
    torch.testing.assert_close(
        term(each(lambda t: t[turn], student), each(lambda t: t[turn], teacher), turned),
        term(student, teacher, given),
    )


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_what_float32_gives(term, half) -> None:
    """kdframe raises the networks' half precision to float32; in a notebook autocast may be on."""
    student, teacher, given = output("student"), output("teacher"), batch()
    rounded = [each(lambda t: t.to(half).float(), o) for o in (student, teacher)]
    expected = term(student, teacher, given)
    torch.testing.assert_close(term(*rounded, given), expected, rtol=0.05, atol=0.02)
    with torch.autocast("cpu", half):
        assert term(student, teacher, given).isfinite()


def test_the_gradient_is_the_slope(term) -> None:
    if term.name in NO_SLOPE:
        pytest.skip(NO_SLOPE[term.name])
    student, teacher = (
        each(Tensor.double, output("student")),
        each(Tensor.double, output("teacher")),
    )
    given = batch()
    if isinstance(term.loss, nn.Module):
        term.loss = copy.deepcopy(term.loss).double()
    tensors = [t.requires_grad_() for t in (student.logits, student.embedding, *student.features)]

    def loss(logits: Tensor, embedding: Tensor, *features: Tensor) -> Tensor:
        return term(Output(logits, embedding, list(features)), teacher, given)

    assert torch.autograd.gradcheck(loss, tensors, fast_mode=True)


def test_compiled_a_term_gives_the_same_number(term) -> None:
    student, teacher, given = output("student"), output("teacher"), batch()
    loss = copy.deepcopy(term.loss)
    compiled = torch.compile(loss, backend="aot_eager")
    torch.testing.assert_close(
        term(student, teacher, given, loss=compiled), term(student, teacher, given)
    )


@pytest.mark.parametrize("name", list(DISTILLERS))
def test_a_terms_file_bears_its_name_and_begins_with_its_source(name) -> None:
    part = DISTILLERS[name]
    module = sys.modules[part.__module__]
    assert name.startswith(Path(module.__file__).stem)
    assert part.__doc__ and module.__doc__
    source = module.__doc__.splitlines()[0]
    where = re.escape(NO_ARXIV.get(name, "arXiv:")) + (
        "" if name in NO_ARXIV else r"\d{4}\.\d{4,5}"
    )
    assert re.search(rf"\b(19|20)\d\d\b.*{where}", source)


def test_no_file_of_the_folder_lacks_its_import_line() -> None:
    folder = Path(kdframe.distillers.__file__).parent
    files = {f"kdframe.distillers.{path.stem}" for path in folder.glob("[!_]*.py")}
    assert files <= set(sys.modules)
