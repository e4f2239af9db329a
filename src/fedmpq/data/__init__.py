"""Data sets: where images come from, how they are kept, and how they are divided among clients."""
