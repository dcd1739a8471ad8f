"""One module for each thing outside: DynamoDB tables, Redis slots, queue files."""
