import json

import torch

from kdframe.registry import HOOKS


def parameters(width: int) -> int:
    """3x3x3 weights a channel of the convolution; a linear layer to 5 classes with bias."""
    return 27 * width + 5 * width + 5


def multiply_adds(width: int) -> int:
    return 27 * width * 8 * 8 + 5 * width


def test_json_holds_the_sums_by_hand_and_their_ratio(trainer, tmp_path) -> None:
    trainer.train([HOOKS["complexity"](tmp_path)])
    found = json.loads((tmp_path / "complexity.json").read_text())
    for who, width in (("student", 4), ("teacher", 8)):
        assert found[who]["parameters"] == parameters(width)
        assert found[who]["multiply_adds"] == multiply_adds(width)
        assert found[who]["activations"] == width * 8 * 8 + 5
    assert found["ratio"]["parameters"] == parameters(8) / parameters(4)
    assert found["ratio"]["multiply_adds"] == multiply_adds(8) / multiply_adds(4)


def test_the_page_says_the_same(trainer, tmp_path) -> None:
    trainer.train([HOOKS["complexity"](tmp_path)])
    page = (tmp_path / "complexity.md").read_text()
    row = ["multiply-adds", f"{multiply_adds(4):,}", f"{multiply_adds(8):,}", "2.00"]
    assert row in [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    assert "## Student" in page
    assert "## Teacher" in page


def test_a_student_alone_has_no_ratio(trainer, tmp_path) -> None:
    trainer.model.teacher = None
    trainer.train([HOOKS["complexity"](tmp_path)])
    assert json.loads((tmp_path / "complexity.json").read_text()).keys() == {"student"}
    assert "eacher" not in (tmp_path / "complexity.md").read_text()


def test_the_networks_and_the_generator_stay_as_they_were(trainer, tmp_path) -> None:
    trainer.model.student.train()
    modules = dict(trainer.model.student.named_modules())
    generator = torch.get_rng_state()
    trainer.train([HOOKS["complexity"](tmp_path)])
    torch.testing.assert_close(torch.get_rng_state(), generator, rtol=0, atol=0)
    assert dict(trainer.model.student.named_modules()) == modules
    assert all(m.training and not m._forward_hooks for m in modules.values())
