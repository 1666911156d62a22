"""Batches, shards and clips of rendered faces."""
