"""Backbones, heads, and the classifier that strategies train."""
