"""The page of a report as HTML: its first screen, the parts below it, pictures, the document around them."""
