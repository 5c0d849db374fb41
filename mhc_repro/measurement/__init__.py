"""What is measured of a net while it trains: gains of H_res, depth kernel, Jacobian, and where it breaks."""
