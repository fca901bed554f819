"""Encryption at rest: the keys, and how a record is sealed with them. Knows neither the store nor tasks."""
