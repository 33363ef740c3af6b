"""One strategy a file; the file's stem is its name on the command line."""

if __name__ != "clbench.strategies":
    raise ImportError(f"import clbench.strategies, not {__name__}: under two names one file would be two modules")
