"""Three brokers on one ZooKeeper, ours beside Apache Kafka 3.9.1: what replication costs, and how long what takes."""
