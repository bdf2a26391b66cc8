#!/usr/bin/env python
"""``kdframe parts``, from a checkout; see kdframe/commands/parts.py."""

import sys

from kdframe import exit_codes
from kdframe.commands.parts import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
