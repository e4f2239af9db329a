"""The stages of dvc.yaml, each a thin script: read parameters, call the package, write outputs."""
