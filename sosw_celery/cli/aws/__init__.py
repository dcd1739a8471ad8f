"""What the command line tells of AWS: policies and templates."""
