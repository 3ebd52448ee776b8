"""A whole cluster on one thread with virtual time, everything from one seed; `cluster.py` says what is real in it."""
