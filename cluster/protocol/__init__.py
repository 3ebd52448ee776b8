"""Kafka's messages: what each API, coordinator record and header looks like in each version, as bytes and as objects.

What it keeps true:
- A message encodes to and decodes from exactly the bytes that Apache Kafka 3.9 and 4.x use for that version.
- Bytes from outside can raise only DecodeError, and take no memory beyond a small multiple of their own length.
- Importing this package reads no table; a message costs something when it is first used, and only the part used.

Any thread may use any of it; two threads that meet a message first at the same moment end with one class.
"""
