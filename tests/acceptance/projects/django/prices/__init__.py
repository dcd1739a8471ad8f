"""Prices of articles."""
