"""Learning: pure maths without I/O (forecaster, calibration, bands). May import schemas."""
