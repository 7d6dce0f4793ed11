"""One run: requests and answers, the journal, the folder and its record, several processes."""
