#!/usr/bin/env python
"""``kdframe train``, from a checkout; see kdframe/commands/train.py."""

import sys

from kdframe import exit_codes
from kdframe.commands.train import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
