"""``python -m kdframe COMMAND ...``, as ``kdframe COMMAND ...``."""

import sys

from kdframe.commands.dispatch import main

if __name__ == "__main__":
    sys.exit(main())
