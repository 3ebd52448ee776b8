"""The broker's settings: server.properties, its keys, listeners, and how they are described.

What stays true: values, refusals and the lines of DescribeConfigs are those of Kafka 3.9 for the same text. A `Config`
is immutable and may be read by any thread; a key that nobody set is parsed when it is first read.
"""

from cluster.config.broker_config import Config, load, may_change
from cluster.config.listeners import Listener
from pylog.config_value import ConfigEntry, ConfigError

__all__ = ["Config", "ConfigEntry", "ConfigError", "Listener", "load", "may_change"]
