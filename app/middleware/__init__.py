"""What every request passes before a route: main puts them in order."""
