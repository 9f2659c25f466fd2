"""From image bytes to face patches and landmarks."""
