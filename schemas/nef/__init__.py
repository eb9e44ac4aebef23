"""Wire messages of 3GPP TS 29.122, 29.571 and of CAMARA. May import schemas, Pydantic."""
