"""Dataset and policy -> a model: loop, input path, checkpoints, devices."""
