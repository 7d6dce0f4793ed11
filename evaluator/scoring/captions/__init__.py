"""What Java makes of captions: PTB tokens, METEOR; what is kept of that on disk."""
