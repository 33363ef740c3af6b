"""A block as figures for papers and pages: one module per kind, all of them functions of the same scene."""
