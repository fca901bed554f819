"""The ports' store, on Redis or Valkey: keys, scripts, codec, and the embedded server."""
