"""The tree in which a cluster keeps its metadata: Kafka's ZooKeeper tree, on more than one store.

What stays true: every store behaves as ZooKeeper does (one contract test-suite says so), and what is written at each
path is byte for byte what Kafka 3.9 writes there. The control thread calls a store; watches only enqueue.
"""
