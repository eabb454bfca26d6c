"""The same, each table handed on as a pickle in a file."""

import pickle
import sys
from pathlib import Path

from work import MemoryWatch, clean, make, summarise


def handed_on(value, folder):
    """Return the value after a way through a file."""
    file = Path(folder) / "value.pickle"
    file.write_bytes(pickle.dumps(value, protocol=5))
    del value
    return pickle.loads(file.read_bytes())


watch = MemoryWatch()
rows, folder = int(sys.argv[1]), sys.argv[2]
print(summarise(handed_on(clean(handed_on(make(rows), folder)), folder)), watch.peak_bytes)
