"""The SALMONN: encoders, Q-Former, projection and the language model with its adapter."""
