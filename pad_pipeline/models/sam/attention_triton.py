"""Attention of SAM's image encoder in Triton: the kernels that `attention_ops` starts.

Windows are read where they lie in the image: nothing is cut out, padded, or put back, and no
table of position terms is made. SAM's tokens of padding are zeros before the projection, so their
keys and values are the projection's biases, which the kernel puts in.

`qkv` is (images, height, width, 3, HEADS, D) in memory, `terms` (images, height, width, HEADS,
2, P), `read` (images, height, width, HEADS, D). The D features of a head are held as two tiles of
D1 and D2, powers of two, of which D2 may be 0. `scale_2` is the scale for exponents of two.
"""

# Triton's kernels are called by other names and types than they are declared with.
# pyright: reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]


@triton.jit
def terms_kernel(
    qkv, rows, columns, terms, height, width, scale,
    HEADS: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr,
    SIDE: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`BLOCK` tokens of one row or column and head: all of them have the same P distances."""
    D: tl.constexpr = D1 + D2
    axis = tl.program_id(2) // HEADS  # 0: a row of tokens and the terms of rows
    head = tl.program_id(2) % HEADS
    longest = tl.maximum(height, width)
    image = tl.program_id(0) // longest
    at = tl.program_id(0) % longest
    along = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    y = tl.where(axis == 0, at, along)
    x = tl.where(axis == 0, along, at)
    valid = (y < height) & (x < width)
    token = ((image * height + y) * width + x).to(tl.int64)
    place = tl.arange(0, P)
    near = (place < SIDE)[None, :]
    table = rows
    if axis == 1:
        table = columns
    line = table + (at % SIDE - place + SIDE - 1)[None, :] * D
    query = qkv + (token * (3 * HEADS) + head)[:, None] * D

    d1 = tl.arange(0, D1)
    q1 = tl.load(query + d1[None, :], mask=valid[:, None], other=0.0)
    t1 = tl.load(line + d1[:, None], mask=near, other=0.0)
    found = tl.dot(q1, t1, input_precision="ieee")
    if D2 > 0:
        d2 = D1 + tl.arange(0, D2)
        q2 = tl.load(query + d2[None, :], mask=valid[:, None], other=0.0)
        t2 = tl.load(line + d2[:, None], mask=near, other=0.0)
        found = tl.dot(q2, t2, found, input_precision="ieee")
    to = terms + ((token * HEADS + head) * 2 + axis)[:, None] * P + place[None, :]
    tl.store(to, (found / scale).to(terms.dtype.element_ty), mask=valid[:, None])


@triton.jit
def windows_kernel(
    qkv, bias, terms, read, height, width, across, scale_2,
    HEADS: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr,
    SIDE: tl.constexpr, P: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """`BLOCK_M` queries of one window and head."""
    D: tl.constexpr = D1 + D2
    STEP: tl.constexpr = 3 * HEADS * D
    N: tl.constexpr = SIDE * SIDE
    top = tl.program_id(0) // across * SIDE
    left = tl.program_id(0) % across * SIDE
    if top + tl.program_id(1) * BLOCK_M // SIDE >= height:
        return  # all of them lie below the image
    head = tl.program_id(2) % HEADS
    image = (tl.program_id(2) // HEADS).to(tl.int64) * height * width

    i = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    y = top + i // SIDE
    x = left + i % SIDE
    asked = ((i < N) & (y < height) & (x < width))[:, None]
    token = y * width + x
    values = qkv + image * STEP + head * D
    query = values + token[:, None] * STEP
    d1 = tl.arange(0, D1)
    q1 = tl.load(query + d1[None, :], mask=asked, other=0.0)
    padding = bias + head * D
    key_1 = tl.load(padding + HEADS * D + d1)
    value_1 = tl.load(padding + 2 * HEADS * D + d1)
    o1 = tl.zeros((BLOCK_M, D1), tl.float32)
    if D2 > 0:
        d2 = D1 + tl.arange(0, D2)
        q2 = tl.load(query + d2[None, :], mask=asked, other=0.0)
        key_2 = tl.load(padding + HEADS * D + d2)
        value_2 = tl.load(padding + 2 * HEADS * D + d2)
        o2 = tl.zeros((BLOCK_M, D2), tl.float32)
    place = tl.arange(0, 2 * P)
    own = terms + ((image + token) * HEADS + head)[:, None] * (2 * P) + place[None, :]
    t = tl.load(own, mask=asked, other=0.0)

    largest = tl.full((BLOCK_M,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    for start in range(0, N, BLOCK_N):
        j = start + tl.arange(0, BLOCK_N)
        row = j // SIDE
        column = j % SIDE
        real = j < N
        inside = real & (top + row < height) & (left + column < width)
        keys = values + HEADS * D + ((top + row) * width + left + column) * STEP
        k1 = tl.load(keys[None, :] + d1[:, None], mask=inside[None, :], other=0.0)
        k1 = tl.where(inside[None, :], k1, key_1[:, None])
        score = tl.dot(q1, k1, input_precision="ieee")
        if D2 > 0:
            k2 = tl.load(keys[None, :] + d2[:, None], mask=inside[None, :], other=0.0)
            k2 = tl.where(inside[None, :], k2, key_2[:, None])
            score = tl.dot(q2, k2, score, input_precision="ieee")
        # the terms of a key's row and column, picked by a product with two ones
        of_row = place[:, None] == row[None, :]
        of_column = place[:, None] == column[None, :] + P
        score = tl.dot(t, (of_row | of_column).to(t.dtype), score, input_precision="ieee")
        score = tl.where(real[None, :], score * scale_2, -float("inf"))

        larger = tl.maximum(largest, tl.max(score, 1))
        fade = tl.exp2(largest - larger)
        weight = tl.exp2(score - larger[:, None])
        total = total * fade + tl.sum(weight, 1)
        largest = larger
        weight = weight.to(q1.dtype)
        v1 = tl.load(keys[:, None] + HEADS * D + d1[None, :], mask=inside[:, None], other=0.0)
        v1 = tl.where(inside[:, None], v1, value_1[None, :])
        o1 = tl.dot(weight, v1, o1 * fade[:, None], input_precision="ieee")
        if D2 > 0:
            v2 = tl.load(keys[:, None] + HEADS * D + d2[None, :], mask=inside[:, None], other=0.0)
            v2 = tl.where(inside[:, None], v2, value_2[None, :])
            o2 = tl.dot(weight, v2, o2 * fade[:, None], input_precision="ieee")

    to = read + ((image + token) * HEADS + head)[:, None] * D
    tl.store(to + d1[None, :], (o1 / total[:, None]).to(read.dtype.element_ty), mask=asked)
    if D2 > 0:
        tl.store(to + d2[None, :], (o2 / total[:, None]).to(read.dtype.element_ty), mask=asked)


@triton.jit
def images_kernel(
    qkv, terms, read, scale_2,
    HEADS: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr,
    SIDE: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """`BLOCK_M` queries of one image and head; the keys come one row of `SIDE` at a time.

    So the terms of a row are one column of the scores, and those of the columns a tile that stays.
    """
    D: tl.constexpr = D1 + D2
    STEP: tl.constexpr = 3 * HEADS * D
    N: tl.constexpr = SIDE * SIDE
    head = tl.program_id(1) % HEADS
    image = (tl.program_id(1) // HEADS).to(tl.int64) * N
    i = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    values = qkv + image * STEP + head * D
    query = values + i[:, None] * STEP
    d1 = tl.arange(0, D1)
    q1 = tl.load(query + d1[None, :])
    o1 = tl.zeros((BLOCK_M, D1), tl.float32)
    if D2 > 0:
        d2 = D1 + tl.arange(0, D2)
        q2 = tl.load(query + d2[None, :])
        o2 = tl.zeros((BLOCK_M, D2), tl.float32)
    column = tl.arange(0, SIDE)
    own = terms + ((image + i) * HEADS + head) * (2 * SIDE)
    of_column = tl.load(own[:, None] + SIDE + column[None, :])

    largest = tl.full((BLOCK_M,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    for row in range(SIDE):
        keys = values + HEADS * D + (row * SIDE + column) * STEP
        k1 = tl.load(keys[None, :] + d1[:, None])
        score = tl.dot(q1, k1, input_precision="ieee")
        if D2 > 0:
            k2 = tl.load(keys[None, :] + d2[:, None])
            score = tl.dot(q2, k2, score, input_precision="ieee")
        of_row = tl.load(own + row).to(tl.float32)
        score = (score + of_column.to(tl.float32) + of_row[:, None]) * scale_2

        larger = tl.maximum(largest, tl.max(score, 1))
        fade = tl.exp2(largest - larger)
        weight = tl.exp2(score - larger[:, None])
        total = total * fade + tl.sum(weight, 1)
        largest = larger
        weight = weight.to(q1.dtype)
        v1 = tl.load(keys[:, None] + HEADS * D + d1[None, :])
        o1 = tl.dot(weight, v1, o1 * fade[:, None], input_precision="ieee")
        if D2 > 0:
            v2 = tl.load(keys[:, None] + HEADS * D + d2[None, :])
            o2 = tl.dot(weight, v2, o2 * fade[:, None], input_precision="ieee")

    to = read + ((image + i) * HEADS + head)[:, None] * D
    tl.store(to + d1[None, :], (o1 / total[:, None]).to(read.dtype.element_ty))
    if D2 > 0:
        tl.store(to + d2[None, :], (o2 / total[:, None]).to(read.dtype.element_ty))
