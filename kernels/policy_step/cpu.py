"""The default policy's network and price rule for one step of a few rows, in Numba.

Like the language model's own step it is bound by reading weights, which pass through the
caches once a step: matrices may be float16, as they are stored. It keeps to one thread: the
others sleep when it starts, and waking them takes longer (50 µs) than what they would save.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import literal_unroll

from kernels.cpu.addresses import matrix_at, vector_at
from kernels.cpu.compiling import fast_helper, helper, kernel
from kernels.cpu.numba_helpers import widen
from kernels.decode_layer.products import dot_columns
from kernels.policy_step import NEVER

_EPSILON = np.float32(1e-5)  # of torch's layer norm
_AHEAD = 2  # outputs from those that are read to those that are prefetched
_REST_LIMIT = np.float32(8.0)
_MOST_NATS = np.float32(15.0)  # of surprisal, as in sol_core/policy/step.py


class Encoder(NamedTuple):
    """``StateEncoder``."""

    locations: Any  # [18, 3] int64, see ``addresses.py``: mean, scale, then the maps in order
    number: Any  # [1], of the type of the maps' weights, one that ``widen`` takes
    num_heads: int  # of its attention


class DamageHeads(NamedTuple):
    """``DamageNetwork``'s heads, bases and positions, three each, and log sharpness [3]."""

    heads: Any
    bases: Any
    positions: Any
    log_sharpness: Any


class Prices(NamedTuple):
    """``PriceRule``: levels and their costs at the ends [3, L], ends [3], one table."""

    levels: Any
    cost_at_low: Any
    cost_at_high: Any
    low: Any
    high: Any
    starts: Any
    aims: Any
    log_prices: Any


@fast_helper
def _layer_norm(values, out):
    """Layer norm of one row, without weights; ``out`` may be the same array."""
    size = np.float32(values.shape[0])
    total = np.float32(0.0)
    for i in range(values.shape[0]):
        total += values[i]
    mean = total / size
    squares = np.float32(0.0)
    for i in range(values.shape[0]):
        squares += (values[i] - mean) * (values[i] - mean)
    scale = np.float32(1.0) / np.sqrt(squares / size + _EPSILON)
    for i in range(values.shape[0]):
        out[i] = (values[i] - mean) * scale


@helper
def _norm(rows, norm):
    """Layer norm of [R, W] with weight and bias; norm: their locations [2, 3]."""
    weight, bias = vector_at(norm[0], rows), vector_at(norm[1], rows)
    out = np.empty_like(rows)
    for row in range(rows.shape[0]):
        _layer_norm(rows[row], out[row])
        for i in range(rows.shape[1]):
            out[row, i] = out[row, i] * weight[i] + bias[i]
    return out


@helper
def _linear(rows, linear, number):
    """[R, in] → [R, out]; linear: locations [2, 3] of weight, of ``number``'s type, and bias."""
    weight, bias = matrix_at(linear[0], number), vector_at(linear[1], rows)
    out = np.empty((rows.shape[0], weight.shape[0]), np.float32)
    dot_columns(rows, weight, 0, weight.shape[0], out, _AHEAD)
    for row in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[row, i] += bias[i]
    return out


@helper
def _gelu(rows):
    """GELU of [R, W], in place."""
    for row in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            x = rows[row, i]
            half = np.float32(0.5) * x
            rows[row, i] = half * (np.float32(1.0) + math.erf(x * np.float32(0.7071067811865476)))


@helper
def _inputs(rows, tokens, embedding, encoder):
    """Write the first map's input [R, 4 C + rest]: states and token normed, the rest scaled."""
    size = embedding.shape[1]
    mean, scale = vector_at(encoder.locations[0], rows), vector_at(encoder.locations[1], rows)
    fed = np.empty(size, np.float32)
    num_rest = rows.shape[1] - 3 * size
    out = np.empty((rows.shape[0], 4 * size + num_rest), np.float32)
    for row in range(rows.shape[0]):
        _layer_norm(rows[row, :size], out[row, :size])
        for i in range(size):
            fed[i] = widen(embedding[tokens[row], i])
        _layer_norm(fed, out[row, size : 2 * size])
        _layer_norm(rows[row, size : 2 * size], out[row, 2 * size : 3 * size])
        _layer_norm(rows[row, 2 * size : 3 * size], out[row, 3 * size : 4 * size])
        for i in range(num_rest):
            scaled = (rows[row, 3 * size + i] - mean[i]) / scale[i]
            out[row, 4 * size + i] = min(max(scaled, -_REST_LIMIT), _REST_LIMIT)
    return out


@fast_helper
def _attend(turned, memory, step, num_heads):
    """Attention of each row's step to the episode's steps so far, itself included.

    Args:
        turned: [R, 3 W], query, key and value; the latter two go into ``memory``.
        memory: [2, R, T, W].
    Returns: [R, W].
    """
    num_rows, width = turned.shape[0], turned.shape[1] // 3
    size = width // num_heads
    scale = np.float32(1.0) / np.sqrt(np.float32(size))
    out = np.zeros((num_rows, width), np.float32)
    scores = np.empty(step + 1, np.float32)
    for row in range(num_rows):
        memory[0, row, step] = turned[row, width : 2 * width]
        memory[1, row, step] = turned[row, 2 * width :]
        for head in range(num_heads):
            begin, end = np.uint64(head * size), np.uint64((head + 1) * size)
            top = np.float32(-np.inf)
            for t in range(step + 1):
                total = np.float32(0.0)
                for i in range(begin, end):
                    total += turned[row, i] * memory[0, row, t, i]
                scores[t] = total * scale
                top = max(top, scores[t])
            total = np.float32(0.0)
            for t in range(step + 1):
                scores[t] = np.exp(scores[t] - top)
                total += scores[t]
            for t in range(step + 1):
                weight = scores[t] / total
                for i in range(begin, end):
                    out[row, i] += weight * memory[1, row, t, i]
    return out


@helper
def _encode(inputs, encoder, memory, step):
    """``StateEncoder`` of one step, [R, in] → [R, W]."""
    locations, number = encoder.locations, encoder.number
    encoded = _linear(inputs, locations[2:4], number)
    _gelu(encoded)
    turned = _linear(_norm(encoded, locations[4:6]), locations[6:8], number)
    mixed = _attend(turned, memory, step, encoder.num_heads)
    encoded += _linear(mixed, locations[8:10], number)
    inner = _linear(_norm(encoded, locations[10:12]), locations[12:14], number)
    _gelu(inner)
    encoded += _linear(inner, locations[14:16], number)
    return _norm(encoded, locations[16:18])


@helper
def _price(damages, aim, axis, prices, sharpness, logits):
    """``PriceRule.logits`` of one row and axis: damages [levels of the axis], logits [L]."""
    at = prices.starts[axis] - np.float64(aim)
    price = np.float32(np.exp(np.interp(at, prices.aims, prices.log_prices)))
    levels = logits.shape[0]
    least, damage = np.float32(np.inf), np.float32(np.inf)
    for level in range(levels):
        damage = min(damage, damages[min(level, damages.shape[0] - 1)])
        cost = damage / price + prices.levels[axis, level]
        if aim <= prices.low[axis]:
            cost = prices.cost_at_low[axis, level]
        elif aim >= prices.high[axis]:
            cost = prices.cost_at_high[axis, level]
        logits[level] = cost
        least = min(least, cost)
    for level in range(levels):
        logits[level] = (least - logits[level]) * sharpness


@helper
def _price_bytes(shapes, terms, logits):
    """``price_bytes``, over the logits of the first axes."""
    num_rows, num_axes, num_levels = terms.log_means.shape
    costs, explained = np.empty(num_levels), np.empty(terms.history.shape[1])
    for row in range(num_rows):
        explained[:] = 0.0
        for i in range(terms.history.shape[0]):
            for j in range(explained.shape[0]):
                explained[j] += terms.features[row, i] * terms.history[i, j]
        for axis in range(num_axes):
            sensitivity = (shapes[row, axis, 0] - explained[2 * axis]) * terms.trust[axis]
            slope = (shapes[row, axis, 1] - explained[2 * axis + 1]) * terms.trust[axis]
            least, damage = np.inf, np.inf
            for level in range(num_levels):
                shift = sensitivity + slope * terms.positions[axis, level]
                damage = min(damage, np.exp(terms.log_means[row, axis, level] + shift))
                costs[level] = damage / terms.prices[row] + terms.share_changes[row, axis, level]
                least = min(least, costs[level])
            for level in range(num_levels):
                logit = (least - costs[level]) * terms.sharpness[axis]
                logits[row, axis, level] = np.float32(max(logit, -NEVER))


@helper
def _observe(seen, previous, rows):
    """Compute ``input_rows`` of ``sol_core/policy`` for an observation.

    Args:
        seen, previous: as of ``policy_step``.
        rows: [R, layout.width] float32, overwritten.
    """
    for row in range(rows.shape[0]):
        end = 0
        for part in literal_unroll(seen):
            width = part.shape[1]
            for i in range(width):
                rows[row, end + i] = part[row, i]
            end += width
        column = end - 3  # of the surprisal: the tokens and whether there is a state come last
        rows[row, column] = min(rows[row, column], _MOST_NATS)
        for axis in range(3):
            rows[row, end + axis] = previous[row, axis]


@kernel
def policy_step(seen, fed, state, network, memory, step, terms, results):
    """``Policy.logits`` of one step, from what was observed.

    Args:
        seen: the parts of an observation's row but for the previous action, [R, …] float32:
            hidden, middle hidden states, concentration, entropy, surprisal, what is known.
        fed: tokens [R] int64, and the language model's embedding [V, C] float32, or bfloat16
            as uint16 bit patterns.
        state: aims of the prices, and spends of the step before, [R, 3] float32.
        network: Encoder, DamageHeads and Prices.
        memory: [2, R, T, W], keys and values of the episode's steps before; gets this one's.
        step: of the episode.
        terms: ByteTerms.
        results: rows [R, layout.width], logits [R, 3, L] float32 and the most probable levels
            [R, 3] int64; overwritten.
    """
    aims, previous = state
    rows, logits, choices = results
    shapes = np.empty((rows.shape[0], 3, 2), np.float32)
    encoder, heads, prices = network
    _observe(seen, previous, rows)
    inputs = _inputs(rows, fed[0], fed[1], encoder)
    encoded = _encode(inputs, encoder, memory, step)
    for axis in range(3):
        weight, bias = heads.heads[axis]
        shape = np.empty((rows.shape[0], 2), np.float32)
        dot_columns(encoded, weight, 0, 2, shape, _AHEAD)
        base, position = heads.bases[axis], heads.positions[axis]
        sharpness = np.exp(heads.log_sharpness[axis])
        damages = np.empty_like(base)
        for row in range(rows.shape[0]):
            sensitivity, slope = shape[row, 0] + bias[0], shape[row, 1] + bias[1]
            shapes[row, axis, 0], shapes[row, axis, 1] = sensitivity, slope
            for level in range(base.shape[0]):
                damages[level] = np.exp(base[level] + sensitivity + slope * position[level])
            _price(damages, aims[row, axis], axis, prices, sharpness, logits[row, axis])
    _price_bytes(shapes, terms, logits)
    for row in range(rows.shape[0]):
        for axis in range(3):
            choices[row, axis] = np.argmax(logits[row, axis])
