"""What a training run is made of: data, model, optimiser, the loop, checkpoints."""
