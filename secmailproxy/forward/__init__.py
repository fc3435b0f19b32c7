"""System mail: encrypt a whole message and hand it on."""
