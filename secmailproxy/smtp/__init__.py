"""SMTP submission: our listener and the smarthost client."""
