"""What goes wrong between bytes and messages: DecodeError for bytes from outside, EncodeError for our own values."""


class DecodeError(ValueError):
    """These bytes are not that message in that version. The sender is at fault."""


class EncodeError(ValueError):
    """This value cannot be said in that version of the message. The caller is at fault."""
