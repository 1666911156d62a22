"""The embedded face detector: whole heads, scenes composed of them, training, its card."""
