"""Training of the embedded network, its heads, its features and its card."""
