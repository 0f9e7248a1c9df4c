"""`python -m handful`, for launchers that start modules: `torchrun -m handful train SPEC`."""

from .cli import main

if __name__ == "__main__":
    main()
