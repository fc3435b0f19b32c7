"""Certificates, secret keys and the judgement of both, apart from any mail protocol."""
