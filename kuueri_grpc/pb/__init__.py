"""Messages, services and their types, generated from protos/. Do not edit: run `make protos`."""
