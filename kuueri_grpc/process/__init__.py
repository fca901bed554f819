"""What a server process has around it, whichever its part: its store, its end, its word that it is ready."""
