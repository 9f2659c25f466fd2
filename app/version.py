"""The version of this release."""

import importlib.metadata

VERSION = importlib.metadata.version("csrn-serve")
