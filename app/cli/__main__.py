"""python -m app.cli: the csrn command of this checkout, also where it is not installed."""

from app.cli import main

if __name__ == "__main__":
    main()
