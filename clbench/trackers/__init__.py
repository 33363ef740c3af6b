"""Trackers, one file each; see `clbench.tracker`."""
