// Gather and matrix product in one: the forward convolution, and the gradient of its features.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "neighbours.h"
#include "parallel.h"
#include "shape.h"

namespace {

constexpr int64_t WEIGHT_BYTES = 24576;  // of a kernel's offsets that are applied together: most of an L1 cache

// Weights as tiles of columns: [tile][k][in][columns], the last tile padded with zeros.
template <class T>
std::vector<T> packed(const T* kernel, int32_t volume, int32_t in, int32_t out, bool transposed, bool mirrored,
                      int columns) {
    const int32_t tiles = (out + columns - 1) / columns;
    std::vector<T> result(static_cast<size_t>(tiles) * volume * in * columns, T(0));
    T* to = result.data();
    for (int32_t tile = 0; tile < tiles; ++tile) {
        const int32_t first = tile * columns, width = std::min<int32_t>(columns, out - first);
        for (int32_t k = 0; k < volume; ++k) {
            const T* from = kernel + int64_t{mirrored ? volume - 1 - k : k} * in * out;
            for (int32_t c = 0; c < in; ++c, to += columns)
                for (int32_t o = 0; o < width; ++o)
                    to[o] = transposed ? from[int64_t{first + o} * in + c] : from[int64_t{c} * out + first + o];
        }
    }
    return result;
}

template <class T>
struct Product {
    const T* source;  // (n, in)
    T* result;        // (m, out)
    const T* bias;    // (out,) or null
    int32_t volume, in, out;
    bool rectified;
};

// What one block of rows reads: for every offset of the kernel and row the place of its source, in bytes from the
// first, and for every group of rows whether any of them has a source there.
template <class T, class S>
struct Sources {
    static constexpr int groups = BLOCK / S::rows;
    std::vector<int32_t> rows;
    std::vector<int64_t> places;
    std::vector<int32_t> some;

    explicit Sources(int32_t volume)
        : rows(static_cast<size_t>(volume) * BLOCK),
          places(static_cast<size_t>(volume) * BLOCK),
          some(static_cast<size_t>(volume) * groups) {}

    void find(const Neighbours& neighbours, int64_t start, int count, const Product<T>& p, const T* nothing) {
        neighbours.look_up(start, count, rows.data());
        const int64_t pitch = p.in * static_cast<int64_t>(sizeof(T));
        const int64_t away = reinterpret_cast<intptr_t>(nothing) - reinterpret_cast<intptr_t>(p.source);
        for (int32_t k = 0; k < p.volume; ++k) {
            const int32_t* row = rows.data() + k * BLOCK;
            int64_t* place = places.data() + k * BLOCK;
            for (int i = 0; i < BLOCK; ++i) place[i] = row[i] ? (row[i] - 1) * pitch : away;
            for (int g = 0; g < groups; ++g) {
                int32_t any = 0;
                for (int r = 0; r < S::rows; ++r) any |= row[g * S::rows + r];
                some[k * groups + g] = any;
            }
        }
    }
};

// A block of rows times one tile of columns.
template <class T, class S>
void multiply_tile(const Product<T>& p, const T* weight, const Sources<T, S>& sources, int64_t start, int count,
                   int32_t first) {
    using Vector = typename S::Vector;
    constexpr int R = S::rows, V = S::vectors, C = S::columns, LANES = C / V;
    const int32_t width = std::min<int32_t>(C, p.out - first);
    const int32_t step = std::max<int64_t>(1, WEIGHT_BYTES / (int64_t{p.in} * C * sizeof(T)));
    alignas(64) T partial[BLOCK][C];
    Vector bias[V] = {}, least = Vector{} + (p.rectified ? T(0) : -std::numeric_limits<T>::infinity());
    if (p.bias) std::memcpy(bias, p.bias + first, width * sizeof(T));
    for (int32_t low = 0; low < p.volume; low += step) {
        const int32_t high = std::min(p.volume, low + step);
        for (int i = 0; i < count; i += R) {
            Vector sum[R][V];
            if (low == 0) {
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v) sum[r][v] = Vector{};
            } else {
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v)
                        sum[r][v] = *reinterpret_cast<const Vector*>(&partial[i + r][v * LANES]);
            }
            for (int32_t k = low; k < high; ++k) {
                if (!sources.some[k * Sources<T, S>::groups + i / R]) continue;
                const int64_t* place = sources.places.data() + k * BLOCK + i;
                const T* from[R];
                for (int r = 0; r < R; ++r)
                    from[r] = reinterpret_cast<const T*>(reinterpret_cast<const char*>(p.source) + place[r]);
                const T* w = weight + int64_t{k} * p.in * C;
                for (int32_t c = 0; c < p.in; ++c, w += C) {
                    Vector factor[V];
                    for (int v = 0; v < V; ++v) factor[v] = *reinterpret_cast<const Vector*>(w + v * LANES);
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) sum[r][v] += from[r][c] * factor[v];
                }
            }
            if (high < p.volume) {
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v)
                        *reinterpret_cast<Vector*>(&partial[i + r][v * LANES]) = sum[r][v];
                continue;
            }
            for (int r = 0; r < R && i + r < count; ++r) {
                T* to = p.result + (start + i + r) * p.out + first;
                for (int v = 0; v < V; ++v) {
                    Vector value = sum[r][v] + bias[v];
                    value = value < least ? least : value;
                    if (width == C)
                        *reinterpret_cast<Vector*>(to + v * LANES) = value;
                    else if (v * LANES < width)
                        std::memcpy(to + v * LANES, &value, std::min(LANES, width - v * LANES) * sizeof(T));
                }
            }
        }
    }
}

template <class T, class S>
void multiply(const Product<T>& p, const T* kernel, bool transposed, bool mirrored, const Neighbours& neighbours,
              int64_t total, int threads) {
    const std::vector<T> weight = packed(kernel, p.volume, p.in, p.out, transposed, mirrored, S::columns);
    const std::vector<T> nothing(p.in, T(0));
    const int64_t tile = int64_t{p.volume} * p.in * S::columns;
    parallel_rows(total, BLOCK * 8, threads, [&](int64_t begin, int64_t end) {
        Sources<T, S> sources(p.volume);
        for (int64_t start = begin; start < end; start += BLOCK) {
            const int count = static_cast<int>(std::min<int64_t>(BLOCK, end - start));
            sources.find(neighbours, start, count, p, nothing.data());
            const T* w = weight.data();
            for (int32_t first = 0; first < p.out; first += S::columns, w += tile)
                multiply_tile<T, S>(p, w, sources, start, count, first);
        }
    });
}

template <class T>
int convolve(const T* source, const T* kernel, const T* bias, T* result, int32_t in, int32_t out, int32_t transposed,
             int32_t mirrored, int32_t rectified, const Neighbours* neighbours, int64_t total, int32_t threads) {
    return guarded([&] {
        const Product<T> p{source, result, bias, neighbours->volume, in, out, rectified != 0};
        with_shape<T>(out, [&](auto shape) {
            multiply<T, decltype(shape)>(p, kernel, transposed != 0, mirrored != 0, *neighbours, total, threads);
        });
    });
}

}  // namespace
