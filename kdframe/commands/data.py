"""Draws images of a split with their labels, and beside them what an epoch of training sees."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kdframe.commands import usage
from kdframe.config import ConfigError, read

EXAMPLES = """examples:
  tools/visualize_data.py --config-file configs/kd_feature.yaml DATASET.AUGMENT crop_flip
  tools/visualize_data.py --config-file configs/kd_feature.yaml --seed 1 --epoch 0,1,2 --count 12
  tools/visualize_data.py --config-file configs/kd_feature.yaml --split test --output test.png
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("data", __doc__, EXAMPLES)
    p.add_argument("--config-file", required=True, metavar="FILE", help="whose data")
    p.add_argument("--seed", type=int, metavar="S", help="as SEED (default: the config's)")
    p.add_argument(
        "--epoch", default="0", metavar="E[,E...]", help="whose augmentation, from 0 (default: 0)"
    )
    p.add_argument("--split", default="train", choices=("train", "val", "test"))
    p.add_argument("--count", type=int, default=24, metavar="N", help="images (default: 24)")
    p.add_argument(
        "--output", type=Path, default=Path("data.png"), metavar="FILE.png",
        help="overwritten (default: data.png)",
    )  # fmt: skip
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    p.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="also KEY=VALUE")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Answers what is wrong with the arguments before torch is imported."""
    args = parser().parse_intermixed_args(argv)
    epochs = epochs_of(args.epoch)
    if args.count < 1:
        raise ConfigError(f"--count takes a number from 1, not {args.count}.")
    if args.output.suffix.lower() != ".png":
        raise ConfigError(f"--output takes a name that ends in .png, not {args.output}.")
    if not args.output.parent.is_dir():
        raise ConfigError(f"--output: there is no folder {args.output.parent}.")
    seed = [] if args.seed is None else [f"SEED={args.seed}"]
    config = read(args.config_file, [*args.overrides, *seed]).load()

    from kdframe import samples, writing
    from kdframe.reports import sheet

    found = samples.samples(config, args.split, epochs, args.count)
    tree = config.tree
    title = f"{tree.DATASET.NAME}, {args.split}: {args.count:,} of {found.total:,} images"
    how = f"augmentation {tree.DATASET.AUGMENT}, seed {tree.SEED}"
    size = "x".join(map(str, next(iter(found.views.values())).shape[2:]))
    mean, std = (" ".join(f"{v:.2f}" for v in values) for values in found.normalised)
    seen = f"a network sees these with mean {mean} and std {std}"
    note = f"{size} pixels, {how if args.split == 'train' else 'not augmented'}; {seen}"
    picture = sheet.draw(found.views, found.labels, found.items, title, note)
    writing.write(args.output, lambda sink: sink.write(picture))
    print(f"{title}; {note}")
    print(args.output)


def epochs_of(text: str) -> tuple[int, ...]:
    """Epochs from 0 on, each once, as ``--epoch`` has them.

    Raises:
        ConfigError: something else.
    """
    words = text.split(",")
    if not all(word.isdecimal() for word in words):
        raise ConfigError(f"--epoch takes epochs from 0 on, as in 0 or 0,1,2, not {text!r}.")
    return tuple(dict.fromkeys(map(int, words)))
