"""The processes of a run: what each is asked, how they are started, how they find each other."""
