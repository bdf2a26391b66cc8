"""Exports a finished run's student, without its teacher, and holds each file against it."""

import sys

from kdframe import exit_codes
from kdframe.commands.export import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
