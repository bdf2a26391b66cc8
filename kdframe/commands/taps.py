"""Prints a config's student and teacher stage by stage, and which stages to pair in a term."""

import argparse
from collections.abc import Sequence

from kdframe.commands import usage
from kdframe.config import ConfigError, load

EXAMPLES = """examples:
  tools/list_taps.py --config-file configs/kd_feature.yaml
  tools/list_taps.py --config-file configs/kd_feature.yaml STUDENT.NAME mobilenetv2_050
  tools/list_taps.py --config-file configs/kd_feature.yaml --size 224 --classes 1000
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("taps", __doc__, EXAMPLES)
    p.add_argument("--config-file", required=True, metavar="FILE", help="whose networks")
    p.add_argument(
        "--size", type=int, metavar="PIXELS", help="of the images' sides, without reading DATASET"
    )
    p.add_argument("--classes", type=int, metavar="N", help="how many; goes with --size")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    p.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="also KEY=VALUE")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Answers what is wrong with the config before torch is imported."""
    args = parser().parse_intermixed_args(argv)
    if (args.size is None) != (args.classes is None):
        raise ConfigError("--size and --classes go together: both, or neither for DATASET's.")
    for name in ("size", "classes"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ConfigError(f"--{name} takes a number from 1, not {getattr(args, name)}.")
    config = load(args.config_file, args.overrides)

    from kdframe import build
    from kdframe.reports import taps

    if args.size is None:
        dataset = build.build_dataset(config, "test")
        classes, image = len(dataset.classes), (3, *dataset.size)
    else:
        classes, image = args.classes, (3, args.size, args.size)
    networks = {
        name: taps.taps(build.build_backbone(config, name.upper(), classes, image))
        for name in ("student", "teacher")
        if config.tree[name.upper()].NAME
    }
    print(taps.as_markdown(networks, image), end="")
