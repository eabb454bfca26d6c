"""A function in another file of the project that the probes' step calls."""


def times(x):
    """The driver edits this line in its copy."""
    return x * 1
