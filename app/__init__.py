"""The HTTP service: sessions, inference, and the csrn command."""

import importlib.metadata

VERSION = importlib.metadata.version("csrn-serve")
