#!/usr/bin/env python
"""``kdframe analyze``, from a checkout; see kdframe/commands/analyze.py."""

import sys

from kdframe import exit_codes
from kdframe.commands.analyze import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
