"""What the decision service and its clients say to each other. May import schemas, Pydantic."""
