"""Batch scripts as sites publish them."""
