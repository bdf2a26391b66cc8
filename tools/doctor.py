#!/usr/bin/env python
"""``kdframe doctor``, from a checkout; see kdframe/commands/doctor.py."""

import sys

from kdframe import exit_codes
from kdframe.commands.doctor import main

if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
