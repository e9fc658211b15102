"""Training: labelled images, large or many, to a checkpoint. Only `learner` and what it uses import torch."""
