"""The broker: Kafka's wire protocol, coordinators, controller and metadata over the pylog library.

Layers, lowest first: model and config, protocol, effects, the state machines (replication, controller, coordinator,
metadata, security), broker, and cli, console, testing on top. A module imports only from layers below its own.
"""
