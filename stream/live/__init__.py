"""The live path: capture, hand-over, analysis in batches, publishing."""
