"""What the project itself needs now and then: training of the embedded models."""
