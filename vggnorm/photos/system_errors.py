"""Errors of the operating system that are not the fault of the file that is being read."""

import errno

# They end the run. A photo that cannot be read for another reason is left out.
SYSTEM_ERRORS = frozenset(
    {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ENODEV, errno.ESTALE}
)
