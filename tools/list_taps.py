#!/usr/bin/env python
"""``kdframe taps``, from a checkout; see kdframe/commands/taps.py."""

import sys

from kdframe import exit_codes
from kdframe.commands.taps import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
