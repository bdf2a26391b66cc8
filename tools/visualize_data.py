#!/usr/bin/env python
"""``kdframe data``, from a checkout; see kdframe/commands/data.py."""

import sys

from kdframe import exit_codes
from kdframe.commands.data import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
