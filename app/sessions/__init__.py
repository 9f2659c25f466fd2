"""Sessions: the examples that clients have registered, kept in SQLite or PostgreSQL. Start with store.py."""
