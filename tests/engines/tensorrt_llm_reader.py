#!/usr/bin/env python3
"""Reads a TensorRT-LLM checkpoint by its definition alone: puts ranks together again, dequantizes.

    tensorrt_llm_reader.py KV_HEADS FOLDER …          needs numpy

FOLDER/read/MODULE.f32 holds what each linear is worth, float32, row-major [out, in]. Modules have the
names of the checkpoint with layers numbered through, qkv taken apart ("…attention.qkv.q") and experts
too ("…mlp.fc.3.up"). Prints "FOLDER MODULE ROWS COLUMNS INPUT_SCALE". KV_HEADS is the number that the
model has, where config.json has written each several times; 0: what config.json says.
"""
import fnmatch
import json
import os
import struct
import sys

import numpy as np

TYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1"}
ROW_LAYERS = ("dense", "proj")


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


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        payload = data[8 + length + begin : 8 + length + end]
        if entry["dtype"] == "BF16":
            bits = np.frombuffer(payload, "<u2").astype(np.uint32) << 16
            array = bits.view(np.float32)
        elif entry["dtype"] == "F8_E4M3":
            array = E4M3[np.frombuffer(payload, "u1")]
        else:
            array = np.frombuffer(payload, TYPES[entry["dtype"]])
        tensors[name] = array.reshape(entry["shape"])
    return tensors


class Checkpoint:
    def __init__(self, folder, model_kv_heads):
        with open(os.path.join(folder, "config.json")) as file:
            self.config = json.load(file)
        mapping = self.config["mapping"]
        self.tp, self.pp = mapping["tp_size"], mapping["pp_size"]
        assert mapping["world_size"] == self.tp * self.pp
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config["num_key_value_heads"]
        self.model_kv_heads = model_kv_heads or self.kv_heads
        self.width = self.config["head_size"]
        self.quantization = self.config["quantization"]
        self.layers = {}
        if self.quantization["quant_algo"] == "MIXED_PRECISION":
            with open(os.path.join(folder, "quant_cfg.json")) as file:
                self.layers = json.load(file)["quantized_layers"]
        self.ranks = [
            read_safetensors(os.path.join(folder, f"rank{rank}.safetensors"))
            for rank in range(self.tp * self.pp)
        ]

    def scheme(self, module):
        if self.layers:
            return self.layers.get(module, {"quant_algo": None})
        for pattern in self.quantization.get("exclude_modules") or []:
            if fnmatch.fnmatchcase(module, pattern):
                return {"quant_algo": None}
        return self.quantization

    def first_layer(self, pp_rank):
        count = self.config["num_hidden_layers"]
        return sum(count // self.pp + (1 if r < count % self.pp else 0) for r in range(pp_rank))

    def weight(self, rank, module):
        """What a rank's part of a linear is worth, [rows, columns] or [experts, rows, columns]."""
        tensors = self.ranks[rank]
        scheme = self.scheme(module)
        algo = scheme["quant_algo"]
        weight = tensors[module + ".weight"]
        if algo in (None, "W8A16"):
            return weight.astype(np.float32)
        if algo in ("W4A16_AWQ", "W4A8_AWQ"):
            low = (weight.astype(np.int8) << 4).astype(np.int8) >> 4
            high = weight.astype(np.int8) >> 4
            rows = weight.shape[-2]
            codes = np.stack([low, high], axis=-2).reshape(*weight.shape[:-2], 2 * rows, -1)
            assert codes.shape[-1] % scheme["group_size"] == 0
            scale = np.repeat(tensors[module + ".weights_scaling_factor"], scheme["group_size"], axis=-1)
            return codes.astype(np.float32) * scale
        if algo == "FP8":
            scale = tensors[module + ".weights_scaling_factor"]
            return weight * scale.reshape(-1, 1, 1) if weight.ndim == 3 else weight * scale
        name = ".weights_scaling_factor"
        if algo in ("FP8_PER_CHANNEL_PER_TOKEN", "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN"):
            name = ".per_channel_scale"
        return weight.astype(np.float32) * tensors[module + name].reshape(-1, 1)

    def heads_of(self, parts, begin):
        """One of k and v: the heads of all ranks, each of the model's once."""
        local = max(1, self.kv_heads // self.tp)
        rows = local * self.width
        found = {}
        for rank, part in enumerate(parts):
            block = part[begin : begin + rows].reshape(local, self.width, -1)
            for i in range(local):
                if self.kv_heads >= self.tp:
                    written = rank * local + i
                else:
                    written = rank // (self.tp // self.kv_heads)
                head = written // (self.kv_heads // self.model_kv_heads)
                if head in found:
                    assert np.array_equal(found[head], block[i]), "a repeated KV head differs"
                found[head] = block[i]
        assert sorted(found) == list(range(self.model_kv_heads))
        return np.concatenate([found[head] for head in sorted(found)])

    def modules(self):
        for pp_rank in range(self.pp):
            first = pp_rank * self.tp
            ranks = range(first, first + self.tp)
            for name in sorted(self.ranks[first]):
                if not name.endswith(".weight") or ".layers." not in name:
                    continue
                module = name[: -len(".weight")]
                if self.ranks[first][name].ndim == 1:
                    continue
                pieces = module.split(".")
                pieces[2] = str(int(pieces[2]) + self.first_layer(pp_rank))
                shown = ".".join(pieces)
                parts = [self.weight(rank, module) for rank in ranks]
                scale = self.ranks[first].get(module + ".activation_scaling_factor", np.zeros(1))[0]
                for rank in ranks:
                    other = self.ranks[rank].get(module + ".activation_scaling_factor", np.zeros(1))[0]
                    assert other == scale, "ranks have other scales of the input"
                yield from self.joined(shown, parts, float(scale))

    def joined(self, module, parts, scale):
        kind = module.rsplit(".", 1)[1]
        if kind == "qkv":
            queries = self.heads // self.tp * self.width
            keys = max(1, self.kv_heads // self.tp) * self.width
            yield module + ".q", np.concatenate([part[:queries] for part in parts]), scale
            yield module + ".k", self.heads_of(parts, queries), scale
            yield module + ".v", self.heads_of(parts, queries + keys), scale
        elif kind == "router":
            assert all(np.array_equal(parts[0], part) for part in parts)
            yield module, parts[0], scale
        elif parts[0].ndim == 3 and kind == "fc":
            half = parts[0].shape[1] // 2
            for expert in range(parts[0].shape[0]):
                up = np.concatenate([part[expert, :half] for part in parts])
                gate = np.concatenate([part[expert, half:] for part in parts])
                yield f"{module}.{expert}.up", up, scale
                yield f"{module}.{expert}.gate", gate, scale
        elif parts[0].ndim == 3:
            for expert in range(parts[0].shape[0]):
                yield f"{module}.{expert}", np.concatenate([p[expert] for p in parts], axis=1), scale
        else:
            yield module, np.concatenate(parts, axis=1 if kind in ROW_LAYERS else 0), scale


def main():
    for folder in sys.argv[2:]:
        os.makedirs(os.path.join(folder, "read"))
        for module, weight, scale in Checkpoint(folder, int(sys.argv[1])).modules():
            weight.astype("<f4").tofile(os.path.join(folder, "read", module + ".f32"))
            print(folder, module, *weight.shape, scale.hex())


if __name__ == "__main__":
    main()
