"""The same odd requests to our broker and to Apache Kafka, and every difference between their answers.

    make differential SEED=7          sessions drawn from a seed, both brokers fresh, the differences printed

What stays true: a session is plain data (JSON), so that it can be kept and played again; what one broker answered goes
into its own later requests only (ids, generations, producer ids are placeholders until a step is sent); what must
differ between two brokers (ids, ports, clocks) is named alike before answers are compared; a difference that is meant
stands in known.py with its reason, and every other one is a fault of ours.
"""
