"""What is measured of H_res while a net trains, and what makes a run degenerate or unstable."""
