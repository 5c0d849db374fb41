"""What a training run is made of: model, optimiser, the loop, checkpoints."""
