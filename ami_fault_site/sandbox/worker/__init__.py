"""A small queue worker that behaves as the real AMI worker does, without its models."""
