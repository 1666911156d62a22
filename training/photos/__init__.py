"""Photographs of real people as a second source of training faces."""
