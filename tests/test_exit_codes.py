import errno

import pytest

from kdframe.exit_codes import answered, code_of, sentence
from kdframe.values import ConfigError


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("x.yaml: two\nlines \x1b[31m"), 2, "x.yaml: two\\nlines \\x1b[31m"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            4,
            "a/b: No space left on device",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x/y"), 2, "x/y: File name too long"),
        (OSError(errno.EMFILE, "Too many open files", "x.png"), 6, "too few file descriptors: "),
        (RuntimeError("received 0 items of ancdata"), 6, "too few file descriptors: "),
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space"),
            6,
            "/dev/shm is full: ",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly with exit code 28. D"),
            6,
            "/dev/shm is full: ",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), 6, "DataLoader"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8"),
            6,
            "there isn't enough memory: ",
        ),
        (MemoryError("no"), 6, "no"),
        (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero (a fault of kdframe"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "BrokenPipeError: "),
    ],
)
def test_an_error_is_one_line_and_a_code(error, code, said, capsys) -> None:
    """A pipe that isn't stdout's is a fault like another."""
    assert code_of(error) == code
    assert sentence(error).startswith(said)
    assert answered(raising(error)) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {sentence(error)}\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("said", ["", "x", "1"])
def test_one_process_speaks_whatever_the_environment_says(said, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", said)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert answered(raising(ConfigError("no"))) == 2
    assert capsys.readouterr().err == "error: no\n"


def test_a_traceback_is_shown_for_debug_only(capsys) -> None:
    assert answered(raising(ConfigError("no")), debug=True) == 2
    assert "Traceback" in capsys.readouterr().err
    assert answered(lambda: None) == 0
