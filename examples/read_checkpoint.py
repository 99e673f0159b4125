#!/usr/bin/env python3
"""Reads one tensor of a pare checkpoint and dequantizes it (docs/checkpoint.md).

    read_checkpoint.py FILE.h5 TENSOR [OUT.npy]     needs h5py and numpy
"""
import sys

import h5py
import numpy as np

BYTE = np.arange(256)
EXPONENT, FRACTION = BYTE >> 3 & 15, BYTE & 7
E4M3 = np.where(EXPONENT > 0, (8 + FRACTION) * 2.0 ** (EXPONENT - 10.0), FRACTION * 2.0**-9)
E4M3 = np.where(BYTE < 128, E4M3, -E4M3).astype(np.float32)
E4M3[[0x7F, 0xFF]] = np.nan
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def nibbles(packed):  # low nibble first
    return np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)


def read(tensors, name):
    data, info = tensors[name][...], tensors[name].attrs
    if info["dtype"] == "bfloat16":
        data = (data.astype(np.uint32) << 16).view(np.float32)
    elif info["dtype"] == "float8_e4m3fn":
        data = E4M3[data]
    elif info["dtype"] == "float8_e8m0fnu":
        data = np.ldexp(np.float32(1), data.astype(np.int32) - 127)
    if "scheme" not in info:
        return data  # a dense tensor
    (rows, columns), sparse = info["logical_shape"], "mask_index" in info
    if info["scheme"] == "int4":
        data = nibbles(data)[:, : columns // 2 if sparse else columns].astype(np.int8)
        data = data if "zero_point" in info else (data ^ 8) - 8
    elif info["scheme"] in ("nvfp4", "mxfp4"):
        data = E2M1[nibbles(data)[:, : columns // 2 if sparse else columns]]
    data, kept = data.astype(np.float32), np.ones((rows, columns), bool)
    if sparse:  # two kept positions, idx0 | idx1 << 2, for each four columns
        index = nibbles(tensors[info["mask_index"]][...])[:, : columns // 4]
        index = np.stack([index & 3, index >> 2], -1) + 4 * np.arange(columns // 4)[:, None]
        kept[:] = False
        np.put_along_axis(kept, index.reshape(rows, -1).astype(np.int64), True, 1)
        dense = np.zeros((rows, columns), np.float32)
        dense[kept] = data.ravel()
        data = dense
    spread = lambda side: np.repeat(side, max(info["group_size"], 1), -1)[..., :columns]
    if "zero_point" in info:
        data = data - spread(tensors[info["zero_point"]][...].astype(np.float32))
    if "scale" in info:
        scale = read(tensors, info["scale"])
        scale = np.repeat(scale, info.get("block_rows", 1), 0)[:rows]
        if "global_scale" in info:
            scale = scale * tensors[info["global_scale"]][...]
        data = data * spread(scale)
    return np.where(kept, data, np.float32(0))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    with h5py.File(sys.argv[1], "r") as file:
        tensor = read(file["tensors"], sys.argv[2])
    if len(sys.argv) == 4:
        np.save(sys.argv[3], tensor)
    else:
        print(tensor.shape, tensor.dtype, tensor)
