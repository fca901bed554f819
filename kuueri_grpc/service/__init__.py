"""The gRPC edge: requests are read and checked, commands carried out, answers and errors written.

Way of a call: `auth` (who calls, and what an exception becomes) -> `tasks` or `projects` (one method per
RPC) -> `requests` (message to domain value, every fault at once) -> engine -> `convert` (domain value to
message). `errors` is the one place that knows status codes.
"""
