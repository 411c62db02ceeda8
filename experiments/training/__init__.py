"""Training: steps, checkpoints, ranks. `trainer.train` carries a run out, `checkpoints.load_run` reads one."""
