"""The controller: which topics there are, where their replicas are, who leads, and what is configured.

What stays true: it decides and does nothing. A refusal is a KafkaError in Kafka's words; a decision is a plan of what
to write down, in groups that are written together or not at all. Chance and time are arguments. Control thread.
"""
