#!/usr/bin/env python3
"""Gives a model of the Llama family outlier channels, without changing what it computes.

    outlier_model.py MODEL_DIR OUT_DIR [SEED]        needs Python 3 alone

One per cent of the channels of every norm of a layer (at least one) is multiplied by 32 or 64, and
the columns of the linears that read it are divided by the same. Powers of two only move exponents, so
in BF16 every product and every sum stays what it was, to the bit. What rounds the norm's output with
one scale for all channels, as static INT8 without smoothing does, fails on such a model.
"""
import json
import os
import random
import shutil
import struct
import sys

READERS = {
    "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"],
}
SHARE = 0.01
EXPONENTS = [5, 6]


class Tensors:
    """The BF16 tensors of one safetensors file, changed in place."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = bytearray(file.read())
        size = struct.unpack("<Q", self.data[:8])[0]
        self.start = 8 + size
        self.header = json.loads(self.data[8 : self.start])

    def shape(self, name):
        if self.header[name]["dtype"] != "BF16":
            sys.exit(f"{name}: expected BF16, found {self.header[name]['dtype']}")
        return self.header[name]["shape"]

    def scale(self, name, element, exponent):
        """Multiplies an element by 2^exponent; zero stays zero."""
        at = self.start + self.header[name]["data_offsets"][0] + 2 * element
        bits = struct.unpack_from("<H", self.data, at)[0]
        found = bits >> 7 & 255
        if found == 0:
            return
        if not 0 < found + exponent < 255:
            sys.exit(f"{name}: element {element} leaves the range of BF16")
        struct.pack_into("<H", self.data, at, bits & 0x807F | found + exponent << 7)


def main(source, target, seed):
    weights = os.path.join(source, "model.safetensors")
    if not os.path.exists(weights):
        sys.exit(f"{weights}: expected a model in one safetensors file")
    with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
        layers = json.load(file)["num_hidden_layers"]
    tensors, draw = Tensors(weights), random.Random(seed)
    for layer in range(layers):
        for norm, readers in READERS.items():
            name = f"model.layers.{layer}.{norm}.weight"
            width = tensors.shape(name)[0]
            for channel in draw.sample(range(width), max(1, round(SHARE * width))):
                exponent = draw.choice(EXPONENTS)
                tensors.scale(name, channel, exponent)
                for reader in readers:
                    matrix = f"model.layers.{layer}.{reader}.weight"
                    for row in range(tensors.shape(matrix)[0]):
                        tensors.scale(matrix, row * width + channel, -exponent)
    os.makedirs(target, exist_ok=True)
    for entry in os.listdir(source):
        if not entry.endswith(".safetensors") and os.path.isfile(os.path.join(source, entry)):
            shutil.copyfile(os.path.join(source, entry), os.path.join(target, entry))
    with open(os.path.join(target, "model.safetensors"), "wb") as file:
        file.write(tensors.data)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) == 4 else 7)
