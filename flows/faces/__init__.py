"""`convoy faces`: the gallery of people, and who is on a picture."""
