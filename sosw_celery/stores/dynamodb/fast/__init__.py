"""What spends less CPU on calls of DynamoDB than botocore does."""
