"""The plain script: everything in memory."""

import sys

from work import MemoryWatch, clean, make, summarise

watch = MemoryWatch()
print(summarise(clean(make(int(sys.argv[1])))), watch.peak_bytes)
