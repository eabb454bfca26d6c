"""``python -m mlflow_pipes`` is ``pipes``."""

import sys

from mlflow_pipes.cli import main

if __name__ == "__main__":
    sys.exit(main())
