"""Audio files: headers and the waveform that a model hears. The reading is the same code in both programs."""
