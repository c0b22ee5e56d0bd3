"""From a verdict to a stream: attestation, policy, published trees."""
