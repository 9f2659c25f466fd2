"""The offline half: datasets, preparation, episodes, training and evaluation."""
