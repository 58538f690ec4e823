"""Names of models that no method has made."""

UNTOUCHED = "untouched"
"""The name of the pretrained model in results: no method has touched it."""


RANDOM = "random"
"""The name of the model before any training, with the random weights that pretraining starts from."""
