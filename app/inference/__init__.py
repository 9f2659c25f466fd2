"""Computes class scores from image bytes, with queues, threads and a device."""
