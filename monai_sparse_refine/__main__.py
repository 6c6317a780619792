"""``python -m monai_sparse_refine``."""

import sys

from monai_sparse_refine.cli import main

if __name__ == "__main__":
    sys.exit(main())
