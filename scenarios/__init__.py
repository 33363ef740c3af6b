"""One scenario a file; the file's stem is its name on the command line."""

if __name__ != "clbench.scenarios":
    raise ImportError(f"import clbench.scenarios, not {__name__}: under two names one file would be two modules")
