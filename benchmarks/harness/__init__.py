"""The processes that a measurement is made of, and what is read from them."""
