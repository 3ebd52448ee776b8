"""What several test folders and the benchmarks share: processes, ports, brokers, Java tools, a record stream to check.

Everything a helper starts, it stops: each is a context manager, and what a failed start leaves behind is killed there.
Nothing here sleeps: waits are on a line of output or on the end of a process, and are bounded.
"""
