"""The settings that a store's topics have of their own: one small file beside the partitions.

Keeps true: the file is replaced as a whole, durably, before a setting is used; a topic that is not in it has none. A
broker does not read it (it keeps settings in its metadata), and is not disturbed by it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from pylog.files import CorruptFileError, read_file, replace_file

TOPIC_SETTINGS_FILE = "topic-settings.json"
_VERSION = 1


class TopicSettings:
    """The file's content. The store's guard protects it."""

    __slots__ = ("_path", "_topics")

    def __init__(self, directory: str) -> None:
        """Raises CorruptFileError, OSError."""
        self._path = os.path.join(directory, TOPIC_SETTINGS_FILE)
        self._topics: dict[str, dict[str, str]] = {}
        data = read_file(self._path)
        if data is not None:
            self._topics = _decode(data, self._path)

    def of(self, topic: str) -> Mapping[str, str]:
        return self._topics.get(topic, {})

    def put(self, topic: str, settings: Mapping[str, str]) -> None:
        """Raises OSError, and then nothing has changed."""
        self._replace({**self._topics, topic: dict(settings)})

    def remove(self, topic: str) -> None:
        """Raises OSError."""
        if topic in self._topics:
            self._replace({name: settings for name, settings in self._topics.items() if name != topic})

    def _replace(self, topics: dict[str, dict[str, str]]) -> None:
        text = json.dumps({"version": _VERSION, "topics": topics}, indent=1, sort_keys=True)
        replace_file(self._path, text.encode() + b"\n")
        self._topics = topics


def _decode(data: bytes, path: str) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(data)
        if found["version"] != _VERSION:
            raise CorruptFileError(path, 1, f"version {_VERSION} expected, found {found['version']}")
        return {
            str(topic): {str(key): str(value) for key, value in settings.items()}
            for topic, settings in found["topics"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        if isinstance(e, CorruptFileError):
            raise
        raise CorruptFileError(path, 1, "version and topics in JSON expected") from None
