"""The table as a console shows it."""

from kdframe.study.table import printed
from kdframe.study.written import read_study


def test_labels_are_printed_as_they_are_written(here) -> None:
    """Brackets and colons are no markup of the console's."""
    (here / "labels.yaml").write_text(
        "ROWS:\n"
        "  a: {CONFIG: student.yaml, LABEL: 'KD [bold]'}\n"
        "  b: {CONFIG: student.yaml, LABEL: 'KD [/x] :cat:'}\n"
    )
    said = "\n".join(printed(read_study("labels.yaml"), []))
    assert "KD [bold] " in said and "KD [/x] :cat: " in said
