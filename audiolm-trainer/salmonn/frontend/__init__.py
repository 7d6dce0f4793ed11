"""The encoders' features: log-mel and Kaldi filter bank of a whole batch, on the model's device."""
