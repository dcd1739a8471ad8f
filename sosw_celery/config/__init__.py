"""The `sosw` section of the configuration: one part of it per module."""
