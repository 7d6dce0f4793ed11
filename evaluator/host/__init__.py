"""The organiser's side: many submissions scored against hidden references, and what each platform wants of that."""
