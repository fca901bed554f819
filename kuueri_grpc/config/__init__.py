"""Configuration: one `Settings` model, and `load_settings` that fills it from every source."""

from kuueri_grpc.config.loader import ConfigError, load_settings
from kuueri_grpc.config.settings import Settings

__all__ = ["ConfigError", "Settings", "load_settings"]
