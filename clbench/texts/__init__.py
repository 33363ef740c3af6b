"""Streams of texts: corpora on disk, rows of token ids, how answers are asked for and scored."""
