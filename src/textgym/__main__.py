"""`python -m textgym`."""

import sys

from textgym.cli import main

if __name__ == "__main__":
    sys.exit(main())
