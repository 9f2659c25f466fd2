"""Offline training: datasets, preparation, episodes, training and evaluation."""
