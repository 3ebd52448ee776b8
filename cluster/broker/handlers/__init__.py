"""One small file per API family: HANDLERS maps each key of the family to how it is decoded, served and refused.

Handlers run on the control thread, return the answer (or None when it comes later) and raise KafkaError for an error
that holds for the whole request; what can fail per topic or partition is answered per topic or partition.
"""
