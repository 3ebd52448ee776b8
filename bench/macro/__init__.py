"""One driver, two brokers: Apache Kafka 3.9.1 and ours take the same load in alternation, and ratios are reported.

Machines are noisy, so what counts is a ratio out of one run, and CPU rather than wall time. Kafka is warmed up with the
kind of load that follows: a cold JVM would flatter us.
"""
