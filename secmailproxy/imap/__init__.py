"""The IMAP stream proxy."""
