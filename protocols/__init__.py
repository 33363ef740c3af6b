"""One protocol a file; the file's stem is its name on the command line."""

if __name__ != "clbench.protocols":
    raise ImportError(f"import clbench.protocols, not {__name__}: under two names one file would be two modules")
