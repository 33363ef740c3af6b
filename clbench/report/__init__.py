"""From records to tables: grouped by what may be compared, then written as CSV, Markdown, LaTeX or to the terminal."""
