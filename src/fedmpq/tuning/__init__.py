"""Search for parameter values that are best on validation images, with Optuna."""
