"""Speed and memory of the engine, each against something measured beside it in the same run."""
