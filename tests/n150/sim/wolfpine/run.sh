#!/bin/sh
# What TTNN starts when TT_METAL_SIMULATOR names this folder's copy.
exec "$WOLFPINE_PYTHON" -u "$(dirname "$0")/server.py" "$@"
