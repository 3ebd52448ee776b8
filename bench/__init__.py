"""Benchmarks: `micro` (one function), `macro` (a broker against Apache Kafka), `history` (what was measured when)."""
