"""The harness itself: it starts the command, breaks it where it is told, and counts."""

import signal

import pytest


def test_equal_runs_are_told_from_others(lab) -> None:
    lab.copy(lab.uninterrupted(), "a")
    assert lab.same("a", "a") == []
    lab.write("b/results.json", "{}")
    for path in (*lab.where.glob("a/*.safetensors"), lab.where / "a/metrics.jsonl"):
        lab.write(f"b/{path.name}", "other")
    names = ["metrics.jsonl", "results.json", "student.safetensors", "student_best.safetensors"]
    assert sorted(lab.same("a", "b")) == names


@pytest.mark.faults
def test_it_dies_in_the_call_that_was_named(lab) -> None:
    done = lab.run("OUTPUT_DIR", "a", die=("replace", 3))
    assert done.returncode == -signal.SIGKILL
    assert [p.name for p in lab.where.rglob(".*.tmp")]
