"""`kuueri demo`: a server, a target and two tasks, of which nothing is left afterwards."""
