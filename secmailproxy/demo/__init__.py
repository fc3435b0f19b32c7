"""`secmailproxy demo`: a mail server, two accounts, a proxy for each, and ordinary clients.

    certificates  a private authority for the TLS of the servers
    servers       the mail server: pymap (IMAP) and an aiosmtpd sink (submission and delivery)
    homes         the two accounts: configuration, keys, the running proxies
    clients       what a mail client does, with the standard library
    steps         the story, step by step; each step checks what it shows
    show          the story on a terminal, or as JSON

Needs the extra `demo` (pymap) and neither network nor system packages.
"""
