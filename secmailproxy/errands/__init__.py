"""Errands on a mailbox at its server: encrypting it in place, undoing that, presenting messages anew."""
