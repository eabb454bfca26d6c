"""``python -m mlflow_pipes`` is ``pipes``."""

from mlflow_pipes.cli import main

if __name__ == "__main__":
    main()
