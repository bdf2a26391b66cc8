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

Term = Callable[[Output, Output, Batch], Tensor]
SHAPES = {  # (C, H, W) a stage: what the stub networks below give
    "student": [(2, 8, 8), (3, 4, 4), (4, 2, 2)],
    "teacher": [(2, 8, 8), (5, 4, 4), (6, 4, 4)],
}


@pytest.fixture(params=list(DISTILLERS))
def term(request, backbone) -> Term:
    part = DISTILLERS[request.param]
    if not inspect.isclass(part):
        return part
    networks = backbone((2, 3, 4), (1, 2, 2)), backbone((2, 5, 6), (1, 2, 1))
    assert [network.shapes for network in networks] == list(SHAPES.values())
    return part(*networks)


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


@pytest.mark.parametrize(("size", "classes"), [(6, 5), (6, 2), (1, 5), (1, 2)])
def test_a_term_is_one_finite_number(term, size, classes) -> None:
    loss = term(
        output("student", size, classes), output("teacher", size, classes), batch(size, classes)
    )
    assert loss.shape == ()
    assert loss.isfinite()


def test_the_gradient_reaches_the_student_and_what_is_learned_but_not_the_teacher(term) -> None:
    student, teacher = each(Tensor.requires_grad_, output("student")), output("teacher")
    term(student, teacher, batch()).backward()
    gradients = [t.grad for t in (student.logits, student.embedding, *student.features)]
    assert any(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)
    assert all(t.grad is None for t in (teacher.logits, teacher.embedding, *teacher.features))
    if isinstance(term, nn.Module):
        learned = list(term.parameters())
        assert all(p.requires_grad and p.grad is not None for p in learned)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("shared", [True, False], ids=["same class", "other class"])
def test_logits_1e3_apart_give_a_finite_loss_and_gradient(term, classes, shared) -> None:
    student, teacher = output("student", 6, classes), output("teacher", 6, classes)
    sign = torch.linspace(-500, 500, classes).expand(6, -1)
    student = student._replace(logits=sign.clone())
    teacher = teacher._replace(logits=sign if shared else -sign)
    student = each(Tensor.requires_grad_, student)
    loss = term(student, teacher, batch(6, classes))
    loss.backward()
    assert loss.isfinite()
    assert student.logits.grad is None or student.logits.grad.isfinite().all()


def test_the_order_of_the_batch_means_nothing(term) -> None:
    student, teacher, given, turn = output("student"), output("teacher"), batch(), torch.randperm(6)
    turned = Batch(given.image[turn], given.target[turn], given.item[turn], given.epoch)
    torch.testing.assert_close(
        term(each(lambda t: t[turn], student), each(lambda t: t[turn], teacher), turned),
        term(student, teacher, given),
    )


def test_bfloat16_gives_nearly_what_float32_gives(term) -> None:
    student, teacher, given = output("student"), output("teacher"), batch()
    half = copy.deepcopy(term).bfloat16() if isinstance(term, nn.Module) else term
    loss = half(each(Tensor.bfloat16, student), each(Tensor.bfloat16, teacher), given)
    torch.testing.assert_close(loss.float(), term(student, teacher, given), rtol=0.05, atol=0.01)


def test_the_gradient_is_the_slope(term) -> None:
    student, teacher = (
        each(Tensor.double, output("student")),
        each(Tensor.double, output("teacher")),
    )
    given = batch()
    double = copy.deepcopy(term).double() if isinstance(term, nn.Module) else term
    tensors = [t.requires_grad_() for t in (student.logits, student.embedding, *student.features)]

    def loss(logits: Tensor, embedding: Tensor, *features: Tensor) -> Tensor:
        return double(Output(logits, embedding, list(features)), teacher, given)

    assert torch.autograd.gradcheck(loss, tensors)


@pytest.mark.parametrize("name", list(DISTILLERS))
def test_a_terms_file_bears_its_name_and_begins_with_its_source(name) -> None:
    part = DISTILLERS[name]
    module = sys.modules[part.__module__]
    assert name.startswith(Path(module.__file__).stem)
    assert part.__doc__ and module.__doc__
    assert re.search(r"\b(19|20)\d\d\b.*arXiv:\d{4}\.\d{4,5}", module.__doc__.splitlines()[0])


def test_no_file_of_the_folder_lacks_its_import_line() -> None:
    folder = Path(kdframe.distillers.__file__).parent
    files = {f"kdframe.distillers.{path.stem}" for path in folder.glob("[!_]*.py")}
    assert files <= set(sys.modules)
