"""Finding the certificates of correspondents: the sources, and the ladder on which they are asked in order.

The contract of a source is in `model`; `ladder` asks; what was found gets into the store by `taking`, and by
nothing else. Nothing here is called by reading mail: a submission asks, or a command.
"""
