"""Lightning, with nothing around the training of one client, and apart from whatever has launched the process."""

import logging
import os
import warnings

import torch

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables of launchers that Lightning reads when it is imported, and that need not be what it expects."""

_hidden = {name: os.environ.pop(name) for name in RANKS if name in os.environ}
try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.plugins.environments import LightningEnvironment
    from lightning.pytorch.trainer.connectors import callback_connector
finally:
    os.environ |= _hidden

# Callbacks that other packages announce have no part in the training of a client; to look for them, Lightning reads
# the entry points of every package that is installed, for each client anew.
callback_connector._load_external_callbacks = lambda group: []

# It would announce itself for each client of each round.
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")

__all__ = ["LightningModule", "trainer"]


def trainer(device: torch.device, precision: str, epochs: int) -> Trainer:
    """Lightning's trainer for one client, with nothing around the training itself.

    A launcher that has started this process (Slurm, torchrun, MPI, ..) does not concern it: the environment is named
    rather than looked for, and there is no folder in which checkpoints for Slurm could lie.
    """
    return Trainer(
        plugins=[LightningEnvironment()],
        default_root_dir=os.devnull,
        accelerator=device.type,
        devices=1,
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
