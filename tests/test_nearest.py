import pytest

from kdframe.nearest import nearest, one_slip


@pytest.mark.parametrize(
    ("a", "b", "is_one"),
    [
        ("EPOCH", "EPOCHS", True),
        ("EPOCHSS", "EPOCHS", True),
        ("EPOCSH", "EPOCHS", True),
        ("EBOCHS", "EPOCHS", True),
        ("LT", "LR", True),
        ("RL", "LR", True),
        ("", "A", True),
        ("EPOCHS", "EPOCHS", False),
        ("EPCOSH", "EPOCHS", False),
        ("EPO", "EPOCHS", False),
        ("ABCD", "ACBE", False),
    ],
)
def test_one_slip_is_one_letter(a, b, is_one) -> None:
    assert one_slip(a, b) is one_slip(b, a) is is_one


def test_a_slip_is_nearer_than_what_looks_alike() -> None:
    """difflib alone finds ckd as like wkd_l as kd: 2 * 2 / 5 each, or less."""
    assert nearest("ckd", ["wkd_l", "kd"]) == ["kd"]
    assert nearest("lr", ["glr", "al", "l"]) == ["glr", "l"]
    assert nearest("resnt18", ["resnet18", "resnet50"]) == ["resnet18"]
    assert nearest("rsnet81", ["resnet18", "vgg"]) == ["resnet18"]
    assert nearest("zebra", ["kd"]) == []


def test_case_alone_is_nearer_than_a_slip() -> None:
    assert nearest("KD", ["kd", "ad", "KDE"]) == ["kd"]
    assert nearest("RESNT18", ["resnet18", "resnet50"]) == ["resnet18"]
    assert nearest("adamW_x", ["AdamW", "sgd"]) == ["AdamW"]


def test_at_most_three_are_named() -> None:
    assert len(nearest("xkd", ["akd", "bkd", "ckd", "dkd"])) == 3
