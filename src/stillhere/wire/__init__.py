"""Bytes to messages and back: the native protocol ``stillhere.v1``."""
