"""`python -m textgym`."""

import sys

from textgym.command_line.cli import main

if __name__ == "__main__":
    sys.exit(main())
