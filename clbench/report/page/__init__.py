"""A report as one web page that loads nothing: tables that sort and open, and figures."""
