#!/usr/bin/env python3
"""Reads a quantized Hugging Face folder by the definition of its form alone (compressed-tensors,
AutoAWQ's gemm, GPTQ 1 and 2, Model Optimizer), and writes what each linear is worth.

    hf_folder_reader.py FOLDER OUT_DIR          needs numpy

OUT_DIR/MODULE.f32 holds the dequantized weight, float32, row-major. Prints "MODULE ROWS COLUMNS".
"""
import json
import os
import struct
import sys

import numpy as np

TYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def e4m3_table():
    values = np.zeros(256, np.float32)
    for bits in range(256):
        exponent, mantissa = (bits >> 3) & 15, bits & 7
        if exponent == 15 and mantissa == 7:
            value = np.nan
        elif exponent == 0:
            value = mantissa * 2.0**-9
        else:
            value = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        values[bits] = -value if bits & 128 else value
    return values


E4M3 = e4m3_table()


class Folder:
    def __init__(self, path):
        self.tensors = {}
        with open(os.path.join(path, "config.json")) as file:
            self.config = json.load(file)["quantization_config"]
        index = os.path.join(path, "model.safetensors.index.json")
        names = ["model.safetensors"]
        if os.path.exists(index):
            with open(index) as file:
                names = sorted(set(json.load(file)["weight_map"].values()))
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                data = file.read()
            length = struct.unpack("<Q", data[:8])[0]
            for tensor, entry in json.loads(data[8 : 8 + length]).items():
                if tensor != "__metadata__":
                    begin, end = entry["data_offsets"]
                    payload = data[8 + length + begin : 8 + length + end]
                    self.tensors[tensor] = (entry["dtype"], entry["shape"], payload)

    def array(self, name):
        dtype, shape, payload = self.tensors[name]
        if dtype == "F8_E4M3":
            return E4M3[np.frombuffer(payload, "u1")].reshape(shape)
        if dtype == "BF16":
            bits = np.frombuffer(payload, "<u2").astype(np.uint32) << 16
            return bits.view(np.float32).reshape(shape)
        return np.frombuffer(payload, TYPES[dtype]).reshape(shape)

    def group_of(self, module):
        if module in self.config["ignore"]:
            raise SystemExit(f"{module} has scales and is ignored")
        for group in self.config["config_groups"].values():
            if module in group["targets"] or "Linear" in group["targets"]:
                return group
        raise SystemExit(f"{module} has scales and no group")


def unpack(words, columns, bits):
    """Element i of a row is bits [i·b, (i + 1)·b) of its words, less 2^(b − 1)."""
    rows = words.shape[0]
    stream = np.unpackbits(words.astype("<i4").view("u1").reshape(rows, -1), axis=1, bitorder="little")
    stream = stream[:, : columns * bits].reshape(rows, columns, bits)
    return (stream << np.arange(bits, dtype=np.int32)).sum(axis=2, dtype=np.int32) - (1 << (bits - 1))


def nibbles(packed):
    both = np.stack([packed & 15, packed >> 4], axis=-1).reshape(packed.shape[0], -1)
    return np.where(both & 8, -E2M1[both & 7], E2M1[both & 7]).astype(np.float32)


def compressed_tensors(folder, module):
    group = folder.group_of(module)
    weights = group["weights"]
    scale = folder.array(module + ".weight_scale")
    zero = None
    if group["format"] == "pack-quantized":
        rows, columns = folder.array(module + ".weight_shape")
        codes = unpack(folder.array(module + ".weight_packed"), columns, weights["num_bits"])
        if not weights["symmetric"]:
            packed = folder.array(module + ".weight_zero_point")
            zero = unpack(np.ascontiguousarray(packed.T), rows, weights["num_bits"]).T
    elif weights["type"] == "float" and weights["num_bits"] == 4:
        codes = nibbles(folder.array(module + ".weight_packed"))
        if scale.dtype == np.uint8:
            scale = np.exp2(scale.astype(np.float32) - 127)
        else:
            scale = scale * (np.float32(1) / folder.array(module + ".weight_global_scale"))
    else:
        codes = folder.array(module + ".weight")
    rows, columns = codes.shape
    scale = scale.astype(np.float32).reshape(1, 1) if scale.size == 1 else scale.astype(np.float32)
    block_rows, block_columns = -(-rows // scale.shape[0]), columns
    if weights["strategy"] in ("group", "tensor_group"):
        block_columns = weights["group_size"]
    elif weights["strategy"] == "block":
        block_rows, block_columns = weights["block_structure"]

    def spread(values):
        tall = np.repeat(values, block_rows, axis=0)[:rows]
        return np.repeat(tall, block_columns, axis=1)[:, :columns]

    steps = codes if zero is None else codes - spread(zero)
    return steps.astype(np.float32) * spread(scale)


def low_first(words, order=range(8)):
    """Nibbles of words: [..., n] becomes [..., 8 n]; `order` says which nibble holds element j."""
    words = words.astype(np.uint32)
    parts = [(words >> np.uint32(4 * nibble)) & np.uint32(15) for nibble in order]
    return np.stack(parts, axis=-1).reshape(*words.shape[:-1], -1).astype(np.int32)


def awq(folder, module):
    assert folder.config["bits"] == 4 and folder.config["version"] == "gemm"
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    codes = low_first(folder.array(module + ".qweight"), order)  # [in, out]
    zeros = low_first(folder.array(module + ".qzeros"), order)  # [groups, out]
    scales = folder.array(module + ".scales").astype(np.float32)
    size = folder.config["group_size"]
    size = codes.shape[0] if size == -1 else size
    assert scales.shape == (codes.shape[0] // size, codes.shape[1])
    steps = codes - np.repeat(zeros, size, axis=0)
    return (steps.astype(np.float32) * np.repeat(scales, size, axis=0)).T


def gptq(folder, module):
    bits = folder.config["bits"]
    words = np.ascontiguousarray(folder.array(module + ".qweight").T)  # [out, in * bits / 32]
    middle = 1 << (bits - 1)
    codes = unpack(words, words.shape[1] * 32 // bits, bits) + middle  # [out, in]
    stored = folder.array(module + ".qzeros")
    zeros = unpack(np.ascontiguousarray(stored), codes.shape[0], bits) + middle  # [groups, out]
    if folder.config["checkpoint_format"] == "gptq":
        zeros = zeros + 1
    scales = folder.array(module + ".scales").astype(np.float32)
    group = folder.array(module + ".g_idx")
    assert not folder.config["desc_act"] and (np.diff(group) >= 0).all()
    if folder.config["sym"]:
        assert (zeros == middle).all()
    return (codes - zeros.T[:, group]).astype(np.float32) * scales.T[:, group]


def modelopt(folder, module):
    config = folder.config
    algo = config["quant_algo"]
    if algo == "MIXED_PRECISION":
        algo = config["quantized_layers"][module]["quant_algo"]
    weight = folder.array(module + ".weight")
    scale = folder.array(module + ".weight_scale").astype(np.float32)
    if algo.startswith("W4A") and "NVFP4" not in algo:
        low, high = weight & 15, weight >> 4
        codes = np.stack([low, high], axis=1).reshape(-1, weight.shape[1]).astype(np.int32)
        codes = np.where(codes > 7, codes - 16, codes)
        return codes.astype(np.float32) * np.repeat(scale, weight.shape[1] // scale.shape[1], axis=1)
    if "NVFP4" in algo:
        scale = np.repeat(scale * folder.array(module + ".weight_scale_2"), 16, axis=1)
        return nibbles(weight) * scale
    if algo == "FP8":
        assert scale.shape == ()
        return weight.astype(np.float32) * scale
    assert algo in ("FP8_PER_CHANNEL_PER_TOKEN", "W8A16", "W8A8_SQ_PER_CHANNEL"), algo
    return weight.astype(np.float32) * scale[:, None]


READERS = {
    "compressed-tensors": (".weight_scale", compressed_tensors),
    "awq": (".qweight", awq),
    "gptq": (".qweight", gptq),
    "modelopt": (".weight_scale", modelopt),
}


def main():
    folder = Folder(sys.argv[1])
    mark, dequantize = READERS[folder.config["quant_method"]]
    for name in sorted(folder.tensors):
        if name.endswith(mark):
            module = name[: -len(mark)]
            weight = np.ascontiguousarray(dequantize(folder, module))
            weight.astype("<f4").tofile(os.path.join(sys.argv[2], module + ".f32"))
            print(module, *weight.shape)


if __name__ == "__main__":
    main()
