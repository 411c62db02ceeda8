"""`python -m flatness.cli`, the same as `flatness`."""

import sys

from flatness.cli import main

if __name__ == "__main__":
    sys.exit(main())
