"""pylog: an embeddable, durable, partitioned commit log in Apache Kafka's files.

Keeps true: importing it costs next to nothing; a name is loaded when it is first used. What the package does is per
batch in C and per segment here; no module of it opens a socket or talks to ZooKeeper. Any thread may enter; what a
class asks of its callers' threads its docstring says.
"""
