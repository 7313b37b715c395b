"""`python -m pad_pipeline` is the command `pad-pipeline`."""

from pad_pipeline.cli.main import main

if __name__ == "__main__":
    main()
