"""The fast engine: one shared forward pass, one backward pass for all (frame, AU) pairs."""
