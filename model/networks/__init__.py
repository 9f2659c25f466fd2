"""The learned functions."""
