"""``python -m monai_sparse_refine``."""

import logging
import sys
import warnings

from monai_sparse_refine.cli import main

if __name__ == "__main__":
    # MONAI says for every file that is read that there is no GPU decoder for DICOM, whatever the file is.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    sys.exit(main())
