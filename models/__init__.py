"""Learning: pure maths without I/O (forecaster, calibration, conformal bands, metrics). May import schemas."""
