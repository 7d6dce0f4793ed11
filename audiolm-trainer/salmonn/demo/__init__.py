"""The web page: its parts, sessions, guard and server."""
