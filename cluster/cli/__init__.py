"""The `pylog` command: one file per subcommand, imported only when it is used.

What it keeps true: `main.py` and `server.py` import nothing that the start of a broker does not need; results go to
stdout, everything else to stderr; a table is drawn for a terminal and tab-separated without a header for a pipe; an
error is one line that says what to do, exit code 1 for what failed and 2 for what was asked wrongly.

Each command runs on the main thread alone.
"""
