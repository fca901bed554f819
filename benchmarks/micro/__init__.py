"""What single steps cost, measured in this process: `python -m benchmarks.micro`.

For finding what to make faster. What users notice is measured from outside: `python -m benchmarks`.
"""
