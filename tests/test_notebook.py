"""The notebook in examples/: every cell runs, and it leaves nothing behind."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples/notebook.ipynb"


@pytest.fixture(scope="module")
def stored() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def said(notebook: nbformat.NotebookNode) -> str:
    """What its cells print."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq")
def test_it_runs_says_what_it_says_here_and_leaves_nothing(tmp_path, stored) -> None:
    """Figures differ from one machine to the next; the lines that hold them don't."""
    ran = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(ran, timeout=1800, kernel_name="python3", resources=where).execute()
    assert not list(tmp_path.iterdir())
    figure = re.compile(r"[-+]?\d[\d.,]*")
    assert figure.sub("#", said(ran)).split() == figure.sub("#", said(stored)).split()
    assert pictures(ran) == pictures(stored) == 3
    assert re.search(r"the teacher itself +0\.000\n3 z \+ 5 +0\.000\n-z +2\.000\n", said(ran))
    gain = re.search(r"gain +([-+\d.]+) points over the student alone", said(ran))
    assert gain and abs(float(gain[1])) < 30


def test_its_file_is_whole_tidy_and_small(stored) -> None:
    nbformat.validate(stored)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds == {"stream", "display_data"}
    assert not [o for cell in code for o in cell.outputs if o.get("name") == "stderr"]
    assert not re.search(r"(?<!\w)/(home|root|tmp|Users)\b", NOTEBOOK.read_text())
    assert NOTEBOOK.stat().st_size < 300_000


def test_its_distiller_is_five_lines(stored) -> None:
    (cell,) = [cell for cell in stored.cells if "@DISTILLERS.register" in cell.source]
    assert cell.source.count("\n") + 1 == 5
