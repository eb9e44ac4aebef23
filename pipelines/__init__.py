"""Making: one pure function a DVC stage. May import every room but serving."""
