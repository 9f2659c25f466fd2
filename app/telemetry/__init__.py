"""What operators see: metrics, logs, request ids, traces. None of it tells an image, a label or a key."""
