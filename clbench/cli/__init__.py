"""`clbench COMMAND ...`: the first word picks the command, one file each."""
