"""A figure of matplotlib as a file: the old picture or the whole new one."""

from pathlib import Path
from typing import IO, Any, cast

from matplotlib.figure import Figure

from kdframe.writing import write


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Writes a picture of the kind that its name says; ``options`` are those of ``savefig``.

    Raises:
        OSError: the disk is full, say; a picture that was there stays.
    """
    kind = path.suffix.removeprefix(".")
    write(path, lambda sink: figure.savefig(cast(IO[bytes], sink), format=kind, **options))
