"""Builds stores and services from the settings, and sends what they send."""
