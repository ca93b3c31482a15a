"""LwF: on the new task's records the model shall go on answering as it did before the stage."""
