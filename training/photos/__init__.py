"""Photographs of real people as a second source of training faces: as they are, and acting."""
