#!/usr/bin/env python3
"""Quantizes a model and reads it back, with nothing but ctypes and the installed library.

    quantize.py MODEL_DIR CALIB.jsonl OUT.h5 TENSOR
"""
import ctypes, json, sys

pare = ctypes.CDLL("libpare.so.0.1")
pare.pare_last_error.restype = pare.pare_job_report.restype = ctypes.c_char_p
pare.pare_tensor_scheme.restype = ctypes.c_char_p


def check(status):
    if status:
        sys.exit(pare.pare_last_error().decode())


model, calibration, output, name = sys.argv[1:]
job, checkpoint, tensor = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
check(pare.pare_job_new(b"quantize", ctypes.byref(job)))
for option in (f"model={model}", f"calibration={calibration}", f"output={output}",
               "qformat=int4_awq", "calibration_size=8", "calibration_seqlen=128"):
    check(pare.pare_job_set(job, *(part.encode() for part in option.split("=", 1))))
check(pare.pare_job_run(job))
print(json.loads(pare.pare_job_report(job))["bits_per_weight"], "bits per weight")
pare.pare_job_free(job)

check(pare.pare_checkpoint_open(output.encode(), ctypes.byref(checkpoint)))
check(pare.pare_checkpoint_find(checkpoint, name.encode(), ctypes.byref(tensor)))
shape = ctypes.POINTER(ctypes.c_int64)()
pare.pare_tensor_shape.restype = ctypes.c_size_t
pare.pare_tensor_shape(tensor, ctypes.byref(shape))
row = (ctypes.c_float * shape[1])()
check(pare.pare_tensor_values(tensor, ctypes.c_int64(0), ctypes.c_int64(1), row,
                              ctypes.c_size_t(len(row))))
print(name, pare.pare_tensor_scheme(tensor).decode() + ":", *(f"{value:g}" for value in row[:4]))
pare.pare_checkpoint_close(checkpoint)
