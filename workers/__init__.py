"""Example labourers, to read and to copy. The configuration beside this folder names them.

- `count_words` counts words in text files; written as a class, as in sosw.
- `fetch_pages` fetches pages of a site that refuses who asks too often; written as a function.
"""
