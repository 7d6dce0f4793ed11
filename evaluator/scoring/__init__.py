"""Scores: normalisation, WER and CER, caption metrics and the Java programs behind them."""
