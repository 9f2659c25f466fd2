"""Sessions: what a client has taught, kept per key. store.py is the protocol, one file per store."""
