"""What to do next, decided purely: events in, commands out. Opens nothing, reads no clock, starts no thread."""
