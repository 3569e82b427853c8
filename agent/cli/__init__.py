"""The commands: parse, call, print; errors become exit codes."""
