// The gradient of a convolution's kernel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "neighbours.h"
#include "parallel.h"
#include "shape.h"

namespace {

// total[c][o] += sum over pairs of left[row][c] * right[row][o], one tile of columns and R rows of the kernel.
template <class T, class S, int R>
void add_outer(const T* const* left, const T* const* right, int pairs, int32_t c, int32_t first, int32_t width,
               T* total, int32_t out) {
    using Vector = typename S::Vector;
    constexpr int V = S::vectors, C = S::columns, LANES = C / V;
    Vector sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = Vector{};
    if (width == C) {
        for (int i = 0; i < pairs; ++i) {
            const T* a = left[i] + c;
            const T* b = right[i] + first;
            for (int v = 0; v < V; ++v) {
                const Vector factor = *reinterpret_cast<const Vector*>(b + v * LANES);
                for (int r = 0; r < R; ++r) sum[r][v] += a[r] * factor;
            }
        }
    } else {
        T padded[C] = {};
        for (int i = 0; i < pairs; ++i) {
            const T* a = left[i] + c;
            std::memcpy(padded, right[i] + first, width * sizeof(T));
            for (int v = 0; v < V; ++v) {
                const Vector factor = *reinterpret_cast<const Vector*>(padded + v * LANES);
                for (int r = 0; r < R; ++r) sum[r][v] += a[r] * factor;
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        T values[C];
        std::memcpy(values, sum[r], sizeof values);
        for (int32_t o = 0; o < width; ++o) total[int64_t{c + r} * out + first + o] += values[o];
    }
}

template <class T, class S>
void add_outer_all(const T* const* left, const T* const* right, int pairs, int32_t in, int32_t out, T* total) {
    for (int32_t first = 0; first < out; first += S::columns) {
        const int32_t width = std::min<int32_t>(S::columns, out - first);
        int32_t c = 0;
        for (; c + 8 <= in; c += 8) add_outer<T, S, 8>(left, right, pairs, c, first, width, total, out);
        for (; c < in; ++c) add_outer<T, S, 1>(left, right, pairs, c, first, width, total, out);
    }
}

// result[k][c][o] = sum over rows i of gathered[neighbour(i, k)][c] * straight[i][o].
template <class T, class S>
void outer(const T* gathered, const T* straight, T* result, int32_t in, int32_t out, const Neighbours& neighbours,
           int64_t total, int64_t segment, int threads) {
    const int32_t volume = neighbours.volume;
    const int64_t values = int64_t{volume} * in * out;
    const int64_t segments = std::max<int64_t>(1, (total + segment - 1) / segment);
    std::vector<T> partial(static_cast<size_t>(segments * values), T(0));
    // Few rows and a large kernel: the offsets are what there is to share out.
    const int64_t groups = segments >= 16 ? 1 : std::min<int64_t>(volume, 9);
    parallel(segments * groups, threads, [&](int64_t task) {
        const int64_t part = task / groups, group = task % groups;
        const int32_t low = static_cast<int32_t>(volume * group / groups);
        const int32_t high = static_cast<int32_t>(volume * (group + 1) / groups);
        std::vector<int32_t> rows(static_cast<size_t>(volume) * BLOCK);
        const T* left[BLOCK];
        const T* right[BLOCK];
        const int64_t end = std::min(total, (part + 1) * segment);
        for (int64_t start = part * segment; start < end; start += BLOCK) {
            const int count = static_cast<int>(std::min<int64_t>(BLOCK, end - start));
            neighbours.look_up(start, count, rows.data());
            for (int32_t k = low; k < high; ++k) {
                int pairs = 0;
                for (int i = 0; i < count; ++i) {
                    const int32_t row = rows[k * BLOCK + i];
                    left[pairs] = gathered + int64_t{row - 1} * in;
                    right[pairs] = straight + (start + i) * out;
                    pairs += row != 0;
                }
                add_outer_all<T, S>(left, right, pairs, in, out,
                                    partial.data() + part * values + int64_t{k} * in * out);
            }
        }
    });
    parallel_rows(values, 4096, threads, [&](int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v) {
            double sum = 0;
            for (int64_t part = 0; part < segments; ++part) sum += partial[part * values + v];
            result[v] = static_cast<T>(sum);
        }
    });
}

template <class T>
int kernel_gradient(const T* gathered, const T* straight, T* result, int32_t in, int32_t out,
                    const Neighbours* neighbours, int64_t total, int32_t threads) {
    return guarded([&] {
        // Partial sums of all segments together: at most 4 M values.
        const int64_t values = int64_t{neighbours->volume} * in * out;
        const int64_t most = std::max<int64_t>(1, (int64_t{1} << 22) / std::max<int64_t>(1, values));
        const int64_t segment = std::max<int64_t>(4096, ((total + most - 1) / most + BLOCK - 1) / BLOCK * BLOCK);
        with_shape<T>(out, [&](auto shape) {
            outer<T, decltype(shape)>(gathered, straight, result, in, out, *neighbours, total, segment, threads);
        });
    });
}

}  // namespace
