"""Permissions: who may use the service, from which web pages, and how much."""
