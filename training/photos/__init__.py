"""Photographs that act: real neutral portraits with known Action Units put on them."""
