#!/usr/bin/env python
"""Trains what a study's file names, and prints one table: every row over its seeds."""

import sys

from kdframe import exit_codes
from kdframe.commands.study import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
