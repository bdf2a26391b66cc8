#!/usr/bin/env python
"""Makes a page of a run or a study; see ``kdframe.commands.report``."""

import sys

from kdframe import exit_codes
from kdframe.commands.report import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
