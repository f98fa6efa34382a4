"""What the product does, one class a use case; knows no HTTP."""
