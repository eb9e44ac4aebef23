"""Network: the radio simulator and what speaks 3GPP. May import schemas."""
