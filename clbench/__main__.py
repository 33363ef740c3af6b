"""`python -m clbench`, the same as `clbench`."""

from clbench.cli.main import main

if __name__ == "__main__":
    main()
