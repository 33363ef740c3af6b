"""Streams of images: files and folders, crops, frozen features, and what is computed of features class by class."""
