"""Metrics, logs and traces for operators. They contain no images, labels, session names or API keys."""
