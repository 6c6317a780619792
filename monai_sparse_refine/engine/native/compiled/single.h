// Convolution where every row of the result has at most one source.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "product.h"

namespace {

// result[i] = source[row] @ kernel[k] where positions[i] - 1 = row * volume + k; 0 where positions[i] is 0.
template <class T, class S>
void multiply_single(const T* source, const T* weight, const int32_t* positions, T* result, int32_t volume, int32_t in,
                     int32_t out, int64_t begin, int64_t end) {
    using Vector = typename S::Vector;
    constexpr int V = S::vectors, C = S::columns, LANES = C / V;
    for (int32_t first = 0; first < out; first += C, weight += int64_t{volume} * in * C) {
        const int32_t width = std::min<int32_t>(C, out - first);
        for (int64_t i = begin; i < end; ++i) {
            Vector sum[V];
            for (int v = 0; v < V; ++v) sum[v] = Vector{};
            if (positions[i]) {
                const int32_t row = (positions[i] - 1) / volume, k = (positions[i] - 1) % volume;
                const T* from = source + int64_t{row} * in;
                const T* w = weight + int64_t{k} * in * C;
                for (int32_t c = 0; c < in; ++c, w += C)
                    for (int v = 0; v < V; ++v) sum[v] += from[c] * *reinterpret_cast<const Vector*>(w + v * LANES);
            }
            T* to = result + i * out + first;
            if (width == C) {
                for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(to + v * LANES) = sum[v];
            } else {
                std::memcpy(to, sum, width * sizeof(T));
            }
        }
    }
}

template <class T>
int convolve_single(const T* source, const T* kernel, const int32_t* positions, T* result, int32_t volume, int32_t in,
                    int32_t out, int32_t transposed, int64_t total, int32_t threads) {
    return guarded([&] {
        with_shape<T>(out, [&](auto shape) {
            using S = decltype(shape);
            const std::vector<T> weight = packed(kernel, volume, in, out, transposed != 0, false, S::columns);
            parallel_rows(total, 4096, threads, [&](int64_t begin, int64_t end) {
                multiply_single<T, S>(source, weight.data(), positions, result, volume, in, out, begin, end);
            });
        });
    });
}

}  // namespace
