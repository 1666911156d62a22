"""The fast engine: one shared forward pass, one pass back for all (frame, AU) pairs together."""
