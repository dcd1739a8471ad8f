"""What only those who come from sosw need."""
