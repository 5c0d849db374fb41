"""What is read: texts and tokens, fetched, checked, split and cut into the batches of a step."""
