"""The Connections page: for each connection, what came in, what became of it, and what to do about the rest."""
