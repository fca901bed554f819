"""`kuueri target`: an HTTP server to send tasks to. It answers by a script and checks what arrives."""
