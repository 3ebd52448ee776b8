"""Requests to a coordinator of the consumer protocol, and what Apache Kafka 4.3.1 answered and wrote."""
