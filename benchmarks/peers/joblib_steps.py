"""The steps of joblib_graphs.py: its worker processes import them."""


def increment(x):
    """A step of a chain."""
    return x + 1


def shifted(x, by):
    """A step of a fan-out."""
    return x + by


def total(parts):
    """Gathers a fan-out."""
    return sum(parts)
