"""What the operating system gives: who a process is, one holder at a time, files whole or not at all, capacity."""
