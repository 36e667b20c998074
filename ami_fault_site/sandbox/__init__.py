"""An Antenna to try it on: an HTTP service on a real NATS JetStream, and a sample worker."""
