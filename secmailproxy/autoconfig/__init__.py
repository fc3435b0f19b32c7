"""Finding the servers of a mail address: autoconfig XML, RFC 6186 SRV records, a built-in table."""
