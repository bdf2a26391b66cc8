#!/usr/bin/env python
"""``kdframe export``, from a checkout; see kdframe/commands/export.py."""

import sys

from kdframe import exit_codes
from kdframe.commands.export import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
