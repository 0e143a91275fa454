"""What modules are made of."""
