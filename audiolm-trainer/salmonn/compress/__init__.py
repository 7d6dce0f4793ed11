"""Making a trained SALMONN smaller: layers are dropped by what they are worth, and the rest is taught anew."""
