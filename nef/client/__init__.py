"""Client of a NEF: QoS requirements and reports, collected durably. May import schemas."""
