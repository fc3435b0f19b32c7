"""MIME octets: spans over the original, never a re-printed message."""
