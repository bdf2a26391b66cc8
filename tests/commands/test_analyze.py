import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOL = str(ROOT / "tools" / "analyze_model.py")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def test_help_and_a_wrong_value_are_answered_without_torch(tmp_path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("SOLVER: {EPOCHS: many}\n")
    for words, code in ((["-h"], 0), (["--config-file", str(config)], 2)):
        program = (
            "import runpy, sys\n"
            f"sys.argv = {[TOOL, *words]}\n"
            "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
            "finally: assert 'torch' not in sys.modules\n"
        )
        ended = run("-c", program)
        assert ended.returncode == code
        assert ended.stderr.count("\n") == (code == 2)


def test_student_and_teacher_are_counted_and_timed(tmp_path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "DATASET: {NAME: glyphs}\n"
        "STUDENT: {NAME: cifar_resnet, DEPTH: 8}\n"
        "TEACHER: {NAME: cifar_resnet, DEPTH: 14, WEIGHTS: random}\n"
        "LOSS: {kd: {}}\n"
    )
    ended = run(TOOL, "--config-file", str(config), "SOLVER.BATCH_SIZE", "16", "DEVICE=cpu")
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ended.stdout.splitlines()]
    table = {row[0]: row[1:] for row in rows if row}
    assert table[""] == ["images", "median ms", "images/s"]
    student, teacher, ratio = (float(x.replace(",", "")) for x in table["parameters"])
    assert student < teacher
    assert float(f"{teacher / student:.2f}") == ratio
    assert [row[:2] for row in rows if len(row) == 4 and row[1] in ("1", "16")] == [
        ["student", "1"],
        ["student", "16"],
        ["teacher", "1"],
        ["teacher", "16"],
    ]
