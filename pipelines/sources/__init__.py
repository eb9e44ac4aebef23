"""Where raw rows come from: one module and one function a source, each giving canonical tables."""
