"""What an arm costs: step time beside the baseline, memory, the work that was counted."""
