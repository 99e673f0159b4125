#!/usr/bin/env python3
"""Reads a GGUF file by its definition alone, and runs a Llama that it holds as llama.cpp does.

    gguf_reader.py dump FILE OUT_DIR            needs numpy
    gguf_reader.py perplexity FILE IDS WINDOW COUNT

dump: OUT_DIR/TENSOR.f32 holds what a tensor is worth, float32, row-major; prints "TENSOR TYPE SHAPE".
perplexity: of COUNT windows of WINDOW ids (IDS: numbers in a text file), the first id of each given.
"""
import os
import struct
import sys

import numpy as np

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# type: name, elements of a block, its bytes
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
         7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
         12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18),
         23: ("IQ4_XS", 256, 136), 30: ("BF16", 1, 2), 39: ("MXFP4", 32, 17)}
GRID = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


class File:
    def __init__(self, path):
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        self.at = 0
        if self.take(4).tobytes() != b"GGUF" or self.number("<I") != 3:
            raise SystemExit("no GGUF of version 3")
        tensors, keys = self.number("<Q"), self.number("<Q")
        self.keys = {}
        for _ in range(keys):
            name = self.text()
            self.keys[name] = self.value(self.number("<I"))
        self.tensors = {}
        for _ in range(tensors):
            name = self.text()
            dims = [self.number("<Q") for _ in range(self.number("<I"))]
            self.tensors[name] = (dims[::-1], self.number("<I"), self.number("<Q"))
        alignment = self.keys.get("general.alignment", 32)
        self.begin = -(-self.at // alignment) * alignment

    def take(self, size):
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)).tobytes())[0]

    def text(self):
        return self.take(self.number("<Q")).tobytes().decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            kind, count = self.number("<I"), self.number("<Q")
            return [self.value(kind) for _ in range(count)]
        return self.number(SCALARS[kind])

    def array(self, name):
        shape, kind, offset = self.tensors[name]
        label, elements, size = TYPES[kind]
        count = int(np.prod(shape)) // elements
        begin = self.begin + offset
        if begin % 32:
            raise SystemExit(f"{name} is not aligned")
        blocks = self.data[begin : begin + count * size].reshape(count, size)
        return decode(label, blocks).reshape(shape)


def half(blocks, at):
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def nibbles(blocks, at):
    packed = blocks[:, at : at + 16]
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def decode(label, blocks):
    if label == "F32":
        return np.ascontiguousarray(blocks).view("<f4")
    if label == "F16":
        return np.ascontiguousarray(blocks).view("<f2").astype(np.float32)
    if label == "BF16":
        bits = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32) << 16
        return bits.view(np.float32)
    if label == "Q4_0":
        return (nibbles(blocks, 2).astype(np.float32) - np.float32(8)) * half(blocks, 0)
    if label == "Q4_1":
        return nibbles(blocks, 4).astype(np.float32) * half(blocks, 0) + half(blocks, 2)
    if label == "Q8_0":
        return np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32) * half(blocks, 0)
    if label in ("Q5_0", "Q5_1"):
        at = 2 if label == "Q5_0" else 4
        codes = nibbles(blocks, at + 4) | spread(blocks[:, at : at + 4], 1, 8).reshape(-1, 32) << 4
        if label == "Q5_0":
            return (codes.astype(np.float32) - np.float32(16)) * half(blocks, 0)
        return codes.astype(np.float32) * half(blocks, 0) + half(blocks, 2)
    if label == "IQ4_NL":
        return half(blocks, 0) * GRID[nibbles(blocks, 2)]
    if label == "MXFP4":
        scale = np.exp2(blocks[:, :1].astype(np.float32) - np.float32(127))
        return E2M1[nibbles(blocks, 1)] * scale
    return decode_super(label, blocks)


def spread(packed, bits, parts):
    """[n, bytes] as [n, bytes, parts]: the lowest bits of each byte first."""
    return packed[..., None] >> (bits * np.arange(parts, dtype=np.uint8)) & np.uint8((1 << bits) - 1)


def pairs(packed):
    """Eight scales and eight minimums of six bits in twelve bytes."""
    low, high, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([low & 63, rest & 15 | low >> 6 << 4], axis=1)
    minimums = np.concatenate([high & 63, rest >> 4 | high >> 6 << 4], axis=1)
    return scales.astype(np.float32), minimums.astype(np.float32)


def runs(values):
    """[n, bytes, parts] of one 32-byte field after another as elements in order."""
    n, size, parts = values.shape
    return values.reshape(n, size // 32, 32, parts).transpose(0, 1, 3, 2).reshape(n, -1)


def decode_super(label, blocks):
    """Super-blocks of 256."""
    n = len(blocks)
    if label in ("Q4_K", "Q5_K"):
        scales, minimums = pairs(blocks[:, 4:16])
        codes = runs(spread(blocks[:, -128:], 4, 2))
        if label == "Q5_K":
            codes = codes | runs(spread(blocks[:, 16:48], 1, 8)) << 4
        steps = np.repeat(half(blocks, 0) * scales, 32, axis=1)
        return steps * codes.astype(np.float32) - np.repeat(half(blocks, 2) * minimums, 32, axis=1)
    if label == "Q2_K":
        steps = np.repeat(half(blocks, 80) * (blocks[:, :16] & 15).astype(np.float32), 16, axis=1)
        offsets = np.repeat(half(blocks, 82) * (blocks[:, :16] >> 4).astype(np.float32), 16, axis=1)
        return steps * runs(spread(blocks[:, 16:80], 2, 4)).astype(np.float32) - offsets
    if label == "Q3_K":
        low = spread(blocks[:, 96:104], 4, 2).transpose(0, 2, 1).reshape(n, 16)
        high = spread(blocks[:, 104:108], 2, 4).transpose(0, 2, 1).reshape(n, 16)
        scales = (low | high << 4).astype(np.float32) - np.float32(32)
        codes = runs(spread(blocks[:, 32:96], 2, 4)).astype(np.int8)
        codes -= np.where(runs(spread(blocks[:, :32], 1, 8)), 0, 4).astype(np.int8)
        return np.repeat(half(blocks, 108) * scales, 16, axis=1) * codes.astype(np.float32)
    if label == "Q6_K":
        # Each half of 128: two fields of 32 bytes, all low nibbles before all high ones.
        low = spread(blocks[:, :128].reshape(n, 2, 64), 4, 2).transpose(0, 1, 3, 2).reshape(n, -1)
        codes = (low | runs(spread(blocks[:, 128:192], 2, 4)) << 4).astype(np.float32) - np.float32(32)
        scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
        return np.repeat(half(blocks, 208) * scales, 16, axis=1) * codes
    high = np.ascontiguousarray(blocks[:, 2:4]).view("<u2") >> (2 * np.arange(8, dtype=np.uint16)) & 3
    scales = spread(blocks[:, 4:8], 4, 2).reshape(n, 8) | high << 4
    steps = np.repeat(half(blocks, 0) * (scales.astype(np.float32) - np.float32(32)), 32, axis=1)
    codes = spread(blocks[:, 8:].reshape(n, 8, 16), 4, 2).transpose(0, 1, 3, 2).reshape(n, -1)
    return steps * GRID[codes]


class Llama:
    """The forward pass in float32, rotary pairs of neighbours ("norm" of llama.cpp)."""

    def __init__(self, file):
        key = lambda name: file.keys["llama." + name]
        self.file = file
        self.heads, self.kv_heads = key("attention.head_count"), key("attention.head_count_kv")
        self.dim = key("attention.key_length")
        self.epsilon = np.float32(key("attention.layer_norm_rms_epsilon"))
        self.layers, self.base = key("block_count"), key("rope.freq_base")
        self.cache = {}

    def weight(self, name):
        if name not in self.cache:
            self.cache[name] = np.ascontiguousarray(self.file.array(name))
        return self.cache[name]

    def norm(self, x, name):
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.epsilon)
        return x / scale * self.weight(name)

    def linear(self, x, name):
        return x @ self.weight(name + ".weight").T

    def rotate(self, x):
        positions = np.arange(x.shape[0], dtype=np.float64)[:, None]
        angles = positions * self.base ** (-np.arange(0, self.dim, 2) / self.dim)
        if "rope_freqs.weight" in self.file.tensors:
            angles = angles / self.weight("rope_freqs.weight").reshape(1, -1)
        cos, sin = np.cos(angles)[:, None].astype(np.float32), np.sin(angles)[:, None].astype(np.float32)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def attention(self, x, name):
        tokens = x.shape[0]
        q = self.rotate(self.linear(x, name + "attn_q").reshape(tokens, self.heads, self.dim))
        k = self.rotate(self.linear(x, name + "attn_k").reshape(tokens, self.kv_heads, self.dim))
        v = self.linear(x, name + "attn_v").reshape(tokens, self.kv_heads, self.dim)
        k, v = (np.repeat(part, self.heads // self.kv_heads, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.float32(np.sqrt(self.dim))
        scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, np.float32(-np.inf))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        out = np.einsum("hqk,khd->qhd", scores, v).reshape(tokens, -1)
        return self.linear(out, name + "attn_output")

    def mlp(self, x, name):
        gate = self.linear(x, name + "ffn_gate")
        return self.linear(gate / (1 + np.exp(-gate)) * self.linear(x, name + "ffn_up"), name + "ffn_down")

    def logits(self, ids):
        x = self.weight("token_embd.weight")[ids]
        for layer in range(self.layers):
            name = f"blk.{layer}."
            x = x + self.attention(self.norm(x, name + "attn_norm.weight"), name)
            x = x + self.mlp(self.norm(x, name + "ffn_norm.weight"), name)
        x = self.norm(x, "output_norm.weight")
        return self.linear(x, "output" if "output.weight" in self.file.tensors else "token_embd")


def perplexity(file, ids, window, count):
    model, loss = Llama(file), []
    for start in range(0, count * window, window):
        part = ids[start : start + window]
        logits = model.logits(part)[:-1].astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        chosen = logits[np.arange(window - 1), part[1:]]
        loss.append(np.log(np.exp(logits).sum(axis=-1)) - chosen)
    return np.exp(np.mean(loss))


def main():
    file = File(sys.argv[2])
    if sys.argv[1] == "perplexity":
        ids = np.array(open(sys.argv[3]).read().split(), dtype=np.int64)
        print(f"{perplexity(file, ids, int(sys.argv[4]), int(sys.argv[5])):.6f}")
        return
    for name, (shape, kind, _) in file.tensors.items():
        file.array(name).astype("<f4").tofile(os.path.join(sys.argv[3], name + ".f32"))
        print(name, TYPES[kind][0], "x".join(map(str, shape)))


if __name__ == "__main__":
    main()
