"""What Java makes of captions: PTB tokens, METEOR."""
