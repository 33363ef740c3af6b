"""Streams of knowledge edits: what is edited and must stay, where in a model, and by which means."""
