"""What is proven of /data."""
