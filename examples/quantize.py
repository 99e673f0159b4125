#!/usr/bin/env python3
"""quantize.py model=DIR output=OUT.h5 qformat=int4_awq calibration=FILE ...: with ctypes alone."""
import ctypes, json, sys

pare = ctypes.CDLL("libpare.so.0.1")
pare.pare_last_error.restype = pare.pare_job_report.restype = ctypes.c_char_p


def check(status):
    if status:
        sys.exit(pare.pare_last_error().decode())


job = ctypes.c_void_p()
check(pare.pare_job_new(b"quantize", ctypes.byref(job)))
for option in sys.argv[1:]:
    check(pare.pare_job_set(job, *option.encode().split(b"=", 1)))
check(pare.pare_job_run(job))
print(json.loads(pare.pare_job_report(job))["bits_per_weight"], "bits per weight")
pare.pare_job_free(job)
