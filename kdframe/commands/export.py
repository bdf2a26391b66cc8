"""Exports a finished run's student, without its teacher, and holds each file against it."""

import argparse
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from kdframe.commands import usage
from kdframe.config import ConfigError
from kdframe.run_folder import require_done

FORMATS = ("safetensors", "timm", "onnx", "torch_export")
INPUTS = ("unit", "uint8", "normalised")
ONNX = ("onnx", "onnxruntime", "onnxscript")

EXAMPLES = """examples:
  tools/export_model.py runs/kd_feature/latest --format onnx
  tools/export_model.py runs/kd_feature/latest --format safetensors torch_export --output shipped
  tools/export_model.py runs/kd_feature/latest --format onnx --input uint8 --weights best --force

formats:
  safetensors   the tensors, loaded by kdframe.formats.safetensors.load
  timm          a folder for timm.create_model("local-dir:...") and Hugging Face's hub
  onnx          a graph for onnxruntime and others; needs pip install 'kdframe[export]'
  torch_export  a graph (.pt2) for torch alone

onnx and torch_export take images of 0 to 1 and normalise them; --input uint8 takes pixels,
--input normalised leaves it to the caller.  safetensors and timm always take normalised images.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("export", __doc__, EXAMPLES)
    p.add_argument("folder", metavar="OUTPUT_DIR", type=Path, help="a finished run's folder")
    p.add_argument(
        "--format", required=True, nargs="+", action="extend", choices=FORMATS, metavar="FORMAT",
        help=f"one or more of {', '.join(FORMATS)}",
    )  # fmt: skip
    p.add_argument("--output", type=Path, metavar="DIR", help="default: OUTPUT_DIR/export")
    p.add_argument(
        "--weights", choices=("last", "best"), default="last",
        help="of the last step (default), or the best on validation",
    )  # fmt: skip
    p.add_argument(
        "--input", choices=INPUTS, default="unit", help="what a graph's images are (default: unit)"
    )
    p.add_argument("--root", default="", metavar="DIR", help="DATASET.ROOT, if it has moved")
    p.add_argument("--force", action="store_true", help="replace an export that is there")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Answers what needs no network first; torch is imported after that."""
    args = parser().parse_args(argv)
    require_done(args.folder)
    names = list(dict.fromkeys(args.format))
    missing = [name for name in ONNX if "onnx" in names and not installed(name)]
    if missing:
        raise ConfigError(
            f"--format onnx needs {', '.join(missing)}: pip install 'kdframe[export]'."
        )

    from kdframe import shipping

    target = args.output or args.folder / "export"
    shipping.ship(
        args.folder,
        names,
        target,
        weights=args.weights,
        images=args.input,
        root=args.root,
        force=args.force,
        say=functools.partial(print, flush=True),
    )
    print(f"{'files':12} {target}: {', '.join(sorted(path.name for path in target.iterdir()))}")


def installed(module: str) -> bool:
    """Whether it can be imported; it isn't."""
    return importlib.util.find_spec(module) is not None
