"""A whole broker process, asked by hand-made requests: what a client would never send, and what Kafka says to it."""
