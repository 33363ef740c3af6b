"""A benchmark of continual learning: how much is forgotten, how much is still learnt, and at what cost."""

__version__ = "0.1.0"
