"""`python -m kuueri_grpc.cli`, the same as `kuueri`."""

from kuueri_grpc.cli import main

if __name__ == "__main__":
    main()
