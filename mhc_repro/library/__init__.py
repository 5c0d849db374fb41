"""What other people's models get: an arm around any branch, gains measured in place, connections injected."""
