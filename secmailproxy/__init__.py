"""secmailproxy: point any mail client at localhost, and your mail is secure."""

__version__ = "0.1.0"
