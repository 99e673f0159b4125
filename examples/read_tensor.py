#!/usr/bin/env python3
"""read_tensor.py CHECKPOINT.h5 TENSOR: prints how it is stored and what it begins with."""
import ctypes, sys

pare = ctypes.CDLL("libpare.so.0.1")
pare.pare_last_error.restype = pare.pare_tensor_scheme.restype = ctypes.c_char_p
pare.pare_tensor_shape.restype = ctypes.c_size_t


def check(status):
    if status:
        sys.exit(pare.pare_last_error().decode())


path, name = sys.argv[1:]
checkpoint, tensor = ctypes.c_void_p(), ctypes.c_void_p()
check(pare.pare_checkpoint_open(path.encode(), ctypes.byref(checkpoint)))
check(pare.pare_checkpoint_find(checkpoint, name.encode(), ctypes.byref(tensor)))
shape = ctypes.POINTER(ctypes.c_int64)()
pare.pare_tensor_shape(tensor, ctypes.byref(shape))
row = (ctypes.c_float * shape[1])()  # the first of a matrix, as float32
first, count = ctypes.c_int64(0), ctypes.c_int64(1)
check(pare.pare_tensor_values(tensor, first, count, row, ctypes.c_size_t(len(row))))
scheme = pare.pare_tensor_scheme(tensor) or b"not compressed"
print(name, scheme.decode() + ":", *(f"{value:g}" for value in row[:4]))
pare.pare_checkpoint_close(checkpoint)
