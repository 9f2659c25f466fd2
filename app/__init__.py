"""The service: HTTP, sessions and batching around `model`."""
