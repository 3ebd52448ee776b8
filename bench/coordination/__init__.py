"""Coordinators of ours against Apache Kafka's: groups, offsets, transactions. `python -m bench.coordination.run`."""
