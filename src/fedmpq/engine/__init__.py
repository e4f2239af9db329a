"""What carries a run out and changes no result: executors, checkpoints, files of results, hardware."""
