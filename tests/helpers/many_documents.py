"""Documents of any text, as a data set may hold them."""

from hypothesis import strategies as st

# Any text but NUL and half of a surrogate pair, which no document may have
DOCUMENT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
DOCUMENTS = st.lists(DOCUMENT, max_size=45)
