"""The C side of the simulation: one replica of a partition on a disk in memory."""
